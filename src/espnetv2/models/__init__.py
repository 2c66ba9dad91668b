"""The network architectures only: no files, no downloads, no training code."""
