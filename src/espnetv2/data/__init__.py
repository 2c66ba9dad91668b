"""Data sets on disk: their layouts, labels, checks, and what training makes of them."""
