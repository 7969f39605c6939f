"""Common parts of the kinds of reference."""
