"""A network at one input size as a list of operations for the kernels, and how the list is run."""
