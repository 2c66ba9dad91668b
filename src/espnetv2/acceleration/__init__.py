"""The same function, faster."""
