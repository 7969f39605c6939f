"""Matching of TFLite tensors with the reference nodes that compute them."""
