"""Stage `prepare`: from the image of a file and a crystal to cells that can be fitted."""

from qhrtem_jax.preparation.page import page
from qhrtem_jax.preparation.problem import prepare
from qhrtem_jax.preparation.result import PreparationResult
from qhrtem_jax.preparation.run import run

__all__ = ["PreparationResult", "page", "prepare", "run"]
