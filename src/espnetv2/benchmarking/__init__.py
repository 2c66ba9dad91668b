"""Cost and speed of networks, of this package and others, measured side by side."""
