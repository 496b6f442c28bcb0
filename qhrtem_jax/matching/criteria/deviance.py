"""The deviance of counted electrons."""

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Image, SumOfSquares

ALIKE = 0.02
"""Where the intensities differ by less than this share, the deviance is that of its series: the
terms of the definition nearly cancel."""


class PoissonDeviance(SumOfSquares):
    """Mean over the pixels of 2 (s - e + e log(e / s)), s simulated and e counted.

    Times the pixels and the electrons that one of the vacuum gets (one over the variance of its
    noise), this is -2 log likelihood of Poisson noise against a perfect model (McCullagh and
    Nelder, Generalized Linear Models, 2.3), so dark pixels weigh more than bright ones. Where a
    simulation is not positive it is infinite.
    """

    def residual(self, simulation: Image, experiment: Image) -> Float[Array, " residuals"]:
        """Deviance residuals, with the sign of s - e."""
        counted = jnp.maximum(experiment, 0.0)  # a camera's noise may go below
        positive = simulation > 0.0
        simulated = jnp.where(positive, simulation, 1.0)
        share = (simulated - counted) / simulated
        alike = jnp.abs(share) < ALIKE
        # 2 (s - e + e log(e / s)) = s x^2 (1 + x / 3 + x^2 / 6 + x^3 / 10 + ...), x = (s - e) / s
        x = jnp.where(alike, share, 0.0)
        near = simulated * (1.0 + x / 3.0 + x**2 / 6.0 + x**3 / 10.0)
        logarithm = xlogy(counted, counted) - xlogy(counted, simulated)
        deviance = jnp.where(alike, 1.0, 2.0 * (simulated - counted + logarithm))
        far = jnp.sign(share) * jnp.sqrt(jnp.maximum(deviance, 0.0))
        found = jnp.where(alike, share * jnp.sqrt(near), far)
        return jnp.where(positive, found, jnp.inf).ravel() / experiment.size**0.5
