"""The constants of the file against those of the reference."""
