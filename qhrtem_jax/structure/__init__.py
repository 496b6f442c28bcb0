"""Stage `structure`: positions and occupancies of the columns of a mean image."""

from qhrtem_jax.structure.page import page
from qhrtem_jax.structure.problem import prepare
from qhrtem_jax.structure.result import StructureResult
from qhrtem_jax.structure.run import run

__all__ = ["StructureResult", "page", "prepare", "run"]
