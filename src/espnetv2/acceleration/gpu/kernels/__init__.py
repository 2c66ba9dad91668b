"""Triton kernels and their launchers; importing a module of this folder imports Triton."""
