"""Faster execution of the same networks on a GPU."""
