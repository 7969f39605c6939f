"""The compounding of errors: the operators that cause the error of the final outputs."""
