"""tfldbg."""
