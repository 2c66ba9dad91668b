"""The network architectures, and nothing else: no file, no download, no training code."""
