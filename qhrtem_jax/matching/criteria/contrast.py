"""The contrast of an image."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Criterion, Image


def contrast(image: Image) -> Float[Array, ""]:
    """Standard deviation of the image over its mean."""
    return jnp.std(image) / jnp.mean(image)


class Contrast(Criterion):
    """Squared difference of the contrasts: blind to where in the image they lie."""

    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        return (contrast(simulation) - contrast(experiment)) ** 2
