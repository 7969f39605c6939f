"""What measures tfldbg: networks, planted faults, and the tables made from them."""
