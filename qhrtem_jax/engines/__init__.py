"""Who computes what can be divided: this process, or others, on this machine or on many."""

from qhrtem_jax.engines.engine import IN_PROCESS, Engine, together
from qhrtem_jax.engines.opened import opened

__all__ = ["IN_PROCESS", "Engine", "opened", "together"]
