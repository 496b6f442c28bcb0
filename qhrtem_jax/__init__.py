"""Quantitative high-resolution transmission electron microscopy (HRTEM) in JAX.

Sub-packages: `physics` (image simulation), `matching` (criteria, noise, objective), `bayesopt`
(Gaussian process, trust region), `refine` (least squares, uncertainties), `stages` (what a user
runs), `io` (files) and `reporting` (tables, figures).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qhrtem_jax")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
