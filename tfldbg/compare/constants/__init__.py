"""Comparison of the constants of the file with those of the reference."""
