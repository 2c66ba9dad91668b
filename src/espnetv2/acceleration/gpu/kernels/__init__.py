"""Triton kernels and how they are launched; importing a module of this folder imports Triton."""
