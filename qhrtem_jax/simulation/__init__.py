"""Stage `simulate`: images of a table of parameters."""

from qhrtem_jax.simulation.output import check_out, write_out
from qhrtem_jax.simulation.page import page
from qhrtem_jax.simulation.problem import prepare
from qhrtem_jax.simulation.result import SimulationResult
from qhrtem_jax.simulation.run import run

__all__ = ["SimulationResult", "check_out", "page", "prepare", "run", "write_out"]
