"""The crystallographers' R-factor."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Criterion, Image


def r_factor(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """sum |simulation - experiment| / sum |experiment|."""
    return jnp.sum(jnp.abs(simulation - experiment)) / jnp.sum(jnp.abs(experiment))


class RFactor(Criterion):
    """The R-factor: the mean absolute error against the mean intensity."""

    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        return r_factor(simulation, experiment)
