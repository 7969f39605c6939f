"""Lower a reference graph to a float .tflite program."""
