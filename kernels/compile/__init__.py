"""What compiles: linked functions, kernels and their cache, records."""
