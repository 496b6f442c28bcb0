"""Quantitative high-resolution transmission electron microscopy (HRTEM) in JAX.

`run(stage, folder, settings)` runs a stage, `open_result(folder)` opens what one found (both in
`qhrtem_jax.api`). The rooms: `physics` (image simulation), `matching` (criteria, noise, objective),
`bayesopt` (Gaussian process, trust region), `refine` (least squares, uncertainties), `numerics`
(work shared out among devices), a package for each stage (`stages` lists them), `io` (files) and
`reporting` (tables, figures).
"""

from importlib import import_module
from typing import Any

from qhrtem_jax.version import VERSION as __version__  # noqa: F401

_FROM_API = ("run", "open_result", "OpenResult")


def __getattr__(name: str) -> Any:
    """What of `api` is at hand here; read when it is asked for, so that an import does no work."""
    if name in _FROM_API:
        return getattr(import_module("qhrtem_jax.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
