"""Stage `series`: a field over time, frame by frame."""

from qhrtem_jax.series.page import page
from qhrtem_jax.series.problem import prepare
from qhrtem_jax.series.result import SeriesResult
from qhrtem_jax.series.run import run

__all__ = ["SeriesResult", "page", "prepare", "run"]
