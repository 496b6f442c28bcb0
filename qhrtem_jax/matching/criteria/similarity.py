"""The structural similarity."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Criterion, Image

WINDOW = 11
"""Pixels along a side of the window."""


def structural_similarity(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """SSIM with a Gaussian window of 1.5 pixels (11 x 11) and the range of the experiment.

    Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Process. 13, 600 (2004): K1 = 0.01,
    K2 = 0.03, biased covariances; averaged over the pixels whose window lies inside the image.
    """
    offset = jnp.arange(WINDOW, dtype=experiment.dtype) - WINDOW // 2
    window = jnp.exp(-(offset**2) / (2.0 * 1.5**2))
    window = window / jnp.sum(window)

    def smooth(image: Array) -> Array:
        rows = jax.vmap(lambda r: jnp.convolve(r, window, mode="valid"))(image)
        return jax.vmap(lambda c: jnp.convolve(c, window, mode="valid"))(rows.T).T

    span = jnp.max(experiment) - jnp.min(experiment)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = smooth(simulation), smooth(experiment)
    var_a = smooth(simulation**2) - mean_a**2
    var_b = smooth(experiment**2) - mean_b**2
    cov = smooth(simulation * experiment) - mean_a * mean_b
    ratio = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return jnp.mean(ratio)


class Similarity(Criterion):
    """1 - SSIM."""

    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        return 1.0 - structural_similarity(simulation, experiment)
