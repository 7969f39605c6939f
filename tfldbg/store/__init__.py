"""The HDF5 file of a recorded run."""
