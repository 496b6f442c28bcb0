"""Quantitative high-resolution transmission electron microscopy (HRTEM) in JAX.

`run(stage, folder, settings)` runs a stage, `open_result(folder)` opens what one found (both in
`qhrtem_jax.api`). The rooms: `physics` (image simulation), `matching` (criteria, noise, objective),
`bayesopt` (Gaussian process, trust region), `refine` (least squares, uncertainties), a package for
each stage (`stages` lists them), `io` (files) and `reporting` (tables, figures).
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("qhrtem_jax")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_FROM_API = ("run", "open_result", "OpenResult")


def __getattr__(name: str) -> Any:
    """What of `api` is at hand here; read when it is asked for, so that an import does no work."""
    if name in _FROM_API:
        return getattr(import_module("qhrtem_jax.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
