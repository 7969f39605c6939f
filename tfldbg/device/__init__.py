"""Runs on a device: the files to copy there, and the import of its tensors as a recording."""
