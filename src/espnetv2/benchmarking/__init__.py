"""Measure the cost and speed of networks, this package's and others, side by side."""
