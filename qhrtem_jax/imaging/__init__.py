"""Stage `imaging`: the imaging parameters and the thickness that explain a mean image."""

from qhrtem_jax.imaging.page import page
from qhrtem_jax.imaging.problem import prepare
from qhrtem_jax.imaging.result import ImagingResult
from qhrtem_jax.imaging.run import run

__all__ = ["ImagingResult", "page", "prepare", "run"]
