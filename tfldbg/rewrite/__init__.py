"""Bytes in, bytes out: changes to a .tflite file that keep its arithmetic."""
