"""Histograms of every operator's errors."""
