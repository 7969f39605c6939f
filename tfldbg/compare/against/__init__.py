"""One module for each kind of reference, and what brings both sides together."""
