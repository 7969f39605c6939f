"""Quantization parameters, and the ranges that they were made from."""
