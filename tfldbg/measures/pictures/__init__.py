"""Pairs of values, for the pictures of the page."""
