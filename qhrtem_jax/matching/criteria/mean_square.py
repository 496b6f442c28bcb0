"""The mean squared error (paper, Eq. 1)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Image, SumOfSquares


def mean_squared_error(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """Mean of (simulation - experiment)^2 (paper, Eq. 1)."""
    return jnp.mean((simulation - experiment) ** 2)


class MeanSquare(SumOfSquares):
    """The mean squared error."""

    def residual(self, simulation: Image, experiment: Image) -> Float[Array, " residuals"]:
        return (simulation - experiment).ravel() / experiment.size**0.5
