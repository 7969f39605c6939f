"""Histograms of the errors of operators."""
