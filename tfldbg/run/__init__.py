"""Input data, and the TFLite runtime in a child process."""
