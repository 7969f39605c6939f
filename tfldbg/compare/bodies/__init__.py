"""Look inside the operators that run subgraphs."""
