"""Stage `stitch`: the regions as one field, and its joint refinement."""

from qhrtem_jax.field.page import page
from qhrtem_jax.field.problem import prepare
from qhrtem_jax.field.result import FieldResult
from qhrtem_jax.field.run import run

__all__ = ["FieldResult", "page", "prepare", "run"]
