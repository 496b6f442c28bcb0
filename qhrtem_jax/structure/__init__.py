"""Stage `structure`: positions and occupancies of the columns of a mean image."""

from qhrtem_jax.structure.fit import run
from qhrtem_jax.structure.page import page
from qhrtem_jax.structure.problem import prepare
from qhrtem_jax.structure.result import StructureResult

__all__ = ["StructureResult", "page", "prepare", "run"]
