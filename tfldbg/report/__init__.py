"""Reports of a result, for people and programs."""
