"""Measurement of each operator's share of the error of the final outputs."""
