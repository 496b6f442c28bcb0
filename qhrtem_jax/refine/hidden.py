"""Pixels that carry no weight, though noise is correlated.

The least chi-square over all values that such pixels might have is that of the other pixels alone,
so they are given the values of the least: fits in between make this the least over parameters and
values together (expectation maximisation: Dempster, Laird, Rubin, J. R. Stat. Soc. B 39, 1, 1977).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.matching.likelihood import Likelihood

TOO_MANY = 1024
"""So many hidden pixels of an image, and more, are taken as the simulation says: the noise of the
others foretells hardly any of theirs."""


def filled(
    likelihood: Likelihood,
    simulation: Float[np.ndarray, "rows cols"],
    image: Float[np.ndarray, "rows cols"],
    hidden: Bool[np.ndarray, "rows cols"],
) -> Float[np.ndarray, "rows cols"]:
    """The image with what the simulation, and the noise of the pixels beside them, say of the
    `hidden` pixels."""
    if not hidden.any():
        return image
    known = np.where(hidden, simulation, image)
    count = int(hidden.sum())
    if count >= TOO_MANY:
        return known
    units = np.zeros((count, *image.shape))
    units[np.arange(count), *np.nonzero(hidden)] = 1.0
    white = np.asarray(likelihood.whiten(jnp.asarray(units)), float).reshape(count, -1)
    missed = np.asarray(likelihood.whiten(jnp.asarray(known - simulation)), float).ravel()
    gram = white @ white.T
    step = np.linalg.solve(gram + 1e-9 * np.trace(gram) / count * np.eye(count), white @ missed)
    known = known.copy()
    known[hidden] -= step
    return known
