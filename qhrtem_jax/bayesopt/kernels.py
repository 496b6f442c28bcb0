"""Stationary correlations by name, as functions of squared distances in length scales.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 4.2.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

_SQRT5 = 5.0**0.5

Square = Float[Array, "n m"]


def matern52(square: Square, mixture: Float[Array, ""]) -> Square:
    """Matern with nu = 5/2 (equation 4.17)."""
    del mixture
    # a floor keeps the derivative finite where points coincide
    r = jnp.sqrt(jnp.maximum(square, 1e-20))
    return (1.0 + _SQRT5 * r + 5.0 / 3.0 * r**2) * jnp.exp(-_SQRT5 * r)


def rbf(square: Square, mixture: Float[Array, ""]) -> Square:
    """Squared exponential (equation 4.9)."""
    del mixture
    return jnp.exp(-0.5 * jnp.maximum(square, 0.0))


def rational_quadratic(square: Square, mixture: Float[Array, ""]) -> Square:
    """A mixture of squared exponentials of many length scales (equation 4.19): the smaller
    `mixture`, the wider their range."""
    return (1.0 + 0.5 * jnp.maximum(square, 0.0) / mixture) ** -mixture


MIXED = ("rational_quadratic",)
"""Kernels that have a mixture."""

KERNELS: dict[str, Callable[[Square, Float[Array, ""]], Square]] = {
    "matern52": matern52,
    "rbf": rbf,
    "rational_quadratic": rational_quadratic,
}
