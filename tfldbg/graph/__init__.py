"""An immutable view of a .tflite file."""
