"""What the kinds of reference are made of."""
