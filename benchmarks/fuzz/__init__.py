"""Give damaged files to every command, and see whether each run ends with words."""
