"""The accuracy of each side, and their final outputs."""
