"""Which node of the reference computes which TFLite tensor."""
