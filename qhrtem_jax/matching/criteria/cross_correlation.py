"""The normalised cross-correlation, at zero shift and at others."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Image, SumOfSquares

MOST_AT_ONCE = 65536
"""Pixels of the largest image of which all shifts are compared together."""


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


class CrossCorrelation(SumOfSquares):
    """1 - NCC: blind to the level and the scale of the intensities."""

    absolute: ClassVar[bool] = False

    def residual(self, simulation: Image, experiment: Image) -> Float[Array, " residuals"]:
        """Half the squared distance of the images, both of mean 0 and length 1, is 1 - NCC."""
        return (_unit(simulation) - _unit(experiment)).ravel() / 2.0**0.5

    def information(self, experiment: Image, variance: float) -> float:
        """Near the minimum 1 - NCC is half the squared error over the image's contrast."""
        return float(2.0 * experiment.size * jnp.var(experiment)) / variance


def _unit(image: Image) -> Image:
    contrast = image - jnp.mean(image)
    return contrast / jnp.sqrt(jnp.sum(contrast**2))
