"""Stage `mtf`: the modulation transfer function of a camera, from the image of a knife edge."""

from qhrtem_jax.knife_edge.page import page
from qhrtem_jax.knife_edge.problem import prepare
from qhrtem_jax.knife_edge.result import KnifeEdgeResult
from qhrtem_jax.knife_edge.run import run

__all__ = ["KnifeEdgeResult", "page", "prepare", "run"]
