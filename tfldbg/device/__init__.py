"""Runs on a device: what is copied there, and how its tensors come back as a recording."""
