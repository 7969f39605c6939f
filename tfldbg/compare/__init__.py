"""Differences between two tensors, as statistics that stream and merge."""
