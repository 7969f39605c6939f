"""The references that a .tflite file is compared with."""
