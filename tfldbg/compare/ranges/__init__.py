"""Quantization parameters, and the ranges that they are computed from."""
