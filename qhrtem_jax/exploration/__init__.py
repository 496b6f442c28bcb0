"""Stage `explore`: what is unusual in an image, and how soon a beam would find it."""

from qhrtem_jax.exploration.page import page
from qhrtem_jax.exploration.problem import prepare
from qhrtem_jax.exploration.result import ExplorationResult
from qhrtem_jax.exploration.run import run

__all__ = ["ExplorationResult", "page", "prepare", "run"]
