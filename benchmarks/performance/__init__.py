"""What tracing costs, as ratios to what the two models cost alone."""
