"""The deviance of counted electrons."""

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Criterion, Image


class PoissonDeviance(Criterion):
    """Mean over the pixels of 2 (s - e + e log(e / s)), s simulated and e counted.

    Times the pixels and the electrons that one of the vacuum gets, this is -2 log likelihood of
    Poisson noise against a perfect model (McCullagh and Nelder, Generalized Linear Models, 2.3), so
    dark pixels weigh more than bright ones. Where a simulation is not positive it is infinite.
    """

    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        """How unlike the images are."""
        counted = jnp.maximum(experiment, 0.0)  # a camera's noise may go below
        logarithm = xlogy(counted, counted) - xlogy(counted, simulation)
        terms = jnp.where(simulation > 0.0, simulation - counted + logarithm, jnp.inf)
        return jnp.mean(2.0 * terms)
