"""Which operators account for the error of the final outputs."""
