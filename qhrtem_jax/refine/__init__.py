"""Least squares with bounds and priors of regions and fields, whole numbers of atoms, errors."""
