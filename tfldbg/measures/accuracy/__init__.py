"""The accuracy of every side, and their final outputs."""
