"""The user's own metrics."""
