"""Faster execution of the same networks."""
