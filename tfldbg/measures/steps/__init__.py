"""The errors of each time step of a recurrent network."""
