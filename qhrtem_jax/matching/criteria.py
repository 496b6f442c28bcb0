"""Figures of merit between a simulated and an experimental image (paper, section 1).

All take images of shape (rows, cols), vacuum-normalised, and are jit- and vmap-able.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "rows cols"]

MOST_AT_ONCE = 65536
"""Pixels of the largest image of which all shifts are compared together."""


def mean_squared_error(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """Mean of (simulation - experiment)^2 (paper, Eq. 1)."""
    return jnp.mean((simulation - experiment) ** 2)


def normalised_cross_correlation(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """Zero-mean NCC at zero shift; 1 is perfect."""
    a = simulation - jnp.mean(simulation)
    b = experiment - jnp.mean(experiment)
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))


def ncc_map(simulation: Image, experiment: Image, reach: int) -> Float[Array, "side side"]:
    """Zero-mean NCC of the overlapping parts, for whole-pixel shifts within +-`reach`.

    Element [reach + dy, reach + dx] compares simulation[y, x] with experiment[y + dy, x + dx].
    """
    rows, cols = experiment.shape

    def at(shift: Array) -> Array:
        row, col = jnp.arange(rows) - shift[0], jnp.arange(cols) - shift[1]
        inside = ((row >= 0) & (row < rows))[:, None] & ((col >= 0) & (col < cols))
        moved = jnp.roll(simulation, shift, axis=(0, 1))
        count = jnp.sum(inside)
        a = jnp.where(inside, moved - jnp.sum(jnp.where(inside, moved, 0.0)) / count, 0.0)
        b = jnp.where(inside, experiment - jnp.sum(jnp.where(inside, experiment, 0.0)) / count, 0.0)
        return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))

    steps = jnp.arange(-reach, reach + 1)
    dy, dx = jnp.meshgrid(steps, steps, indexing="ij")
    shifts = jnp.stack([dy.ravel(), dx.ravel()], axis=1)
    if experiment.size > MOST_AT_ONCE:  # one shift after the other: all at once take the memory
        return jax.lax.map(at, shifts).reshape(dy.shape)
    return jax.vmap(at)(shifts).reshape(dy.shape)


def structural_similarity(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """SSIM with a Gaussian window of 1.5 pixels (11 x 11) and the range of the experiment.

    Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Process. 13, 600 (2004): K1 = 0.01,
    K2 = 0.03, biased covariances; averaged over the pixels whose window lies inside the image.
    """
    offset = jnp.arange(-5, 6, dtype=experiment.dtype)
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


def contrast(image: Image) -> Float[Array, ""]:
    """Standard deviation of the image over its mean."""
    return jnp.std(image) / jnp.mean(image)


def r_factor(simulation: Image, experiment: Image) -> Float[Array, ""]:
    """sum |simulation - experiment| / sum |experiment|."""
    return jnp.sum(jnp.abs(simulation - experiment)) / jnp.sum(jnp.abs(experiment))
