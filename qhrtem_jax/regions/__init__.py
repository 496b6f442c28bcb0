"""Stage `reconstruct`: numbers of atoms of every column, region by region."""

from qhrtem_jax.regions.page import page
from qhrtem_jax.regions.problem import prepare
from qhrtem_jax.regions.result import RegionsResult
from qhrtem_jax.regions.run import run

__all__ = ["RegionsResult", "page", "prepare", "run"]
