"""Arithmetic of any kind: work shared out among devices, factors of matrices."""
