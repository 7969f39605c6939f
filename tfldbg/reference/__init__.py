"""What a .tflite is compared with."""
