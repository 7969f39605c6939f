"""How errors compound: which operators cause the error of the final outputs."""
