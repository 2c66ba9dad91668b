"""Data sets on disk: layouts, labels and checks."""
