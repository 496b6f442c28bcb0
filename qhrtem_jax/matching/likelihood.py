"""What a simulated image misses of an experimental one, weighed by the noise."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.matching.noise import SPECTRAL_FLOOR, NoiseModel
from qhrtem_jax.matching.speckle import cosines

Images = Float[Array, "*n rows cols"] | Float[np.ndarray, "*n rows cols"]
Paired = Float[Array, "*#n rows cols"] | Float[np.ndarray, "*#n rows cols"]


class Likelihood(eqx.Module):
    """Whitened residuals of images, whose sum of squares is -2 log likelihood, up to a constant.

    With `white_y` and `white_x` that is chi-square against correlated noise (`make_likelihood`), in
    cosines if the noise has speckle; without them all pixels weigh alike (`mean_square`). In a
    basis of fewer functions than pixels, `rest` is what the experiment has outside it, which no
    simulation changes. `steady` makes the noise of all pixels alike first, where it grows with the
    intensity.
    """

    scale: Float[Array, ""] | Float[Array, "rows cols"]  # one over the noise's standard deviation
    white_y: Float[Array, "rows rows"] | None = None
    white_x: Float[Array, "cols cols"] | None = None
    rest: Float[Array, ""] | None = None  # root of the sum of squares outside the basis
    steady: Float[Array, "rows cols"] | None = None  # one over the noise's relative deviation
    pixels: int = eqx.field(static=True, kw_only=True)

    def whiten(self, images: Images) -> Float[Array, "*n rows cols"]:
        """Images in which noise is independent, of unit variance."""
        if self.white_y is None or self.white_x is None:
            return self.scale * images
        steady = images if self.steady is None else self.steady * images
        return self.scale * (self.white_y @ steady @ self.white_x.T)

    def residual(self, simulation: Paired, experiment: Paired) -> Float[Array, "... residuals"]:
        """What `simulation` misses of `experiment`, as whitened vectors."""
        return self._flat(self.whiten(simulation - experiment), self.rest)

    def slopes(self, jacobian: Float[Array, "d rows cols"]) -> Float[Array, "residuals d"]:
        """Derivative of `residual`, from that of the simulation."""
        return self._flat(self.whiten(jacobian), None if self.rest is None else 0.0).T

    def objective(self, simulation: Paired, experiment: Paired) -> Float[Array, "..."]:
        """Sum of the squares of `residual`."""
        return jnp.sum(self.residual(simulation, experiment) ** 2, axis=-1)

    def _flat(self, white: Array, rest: Array | float | None) -> Array:
        flat = white.reshape(*white.shape[:-2], -1)
        if rest is None:
            return flat
        more = jnp.broadcast_to(rest * self.scale, (*flat.shape[:-1], 1)).astype(flat.dtype)
        return jnp.concatenate([flat, more], axis=-1)


def make_likelihood(
    noise: NoiseModel,
    shape: tuple[int, int],
    dtype: jnp.dtype,
    image: Float[np.ndarray, "rows cols"] | None = None,
) -> Likelihood:
    """Likelihood of images of `shape` pixels with `noise`; its objective is chi-square. Where the
    noise grows with the intensity, that is `image`'s (None: it is taken as that of the vacuum).

    A stationary noise of any spectrum is nearly independent in the cosines of a frame (DCT-II: no
    edges, where a Fourier series has steps), which speckle needs; a camera's noise alone is made
    independent exactly.
    """
    pixels = shape[0] * shape[1]
    deviation = None if image is None else noise.deviation(image)
    steady = None if deviation is None else jnp.asarray(1.0 / deviation, dtype)
    if noise.speckle is not None:
        scale = jnp.asarray(noise.in_cosines(shape) ** -0.5, dtype)
        rows, cols = (jnp.asarray(cosines(count), dtype) for count in shape)
        return Likelihood(scale, rows, cols, steady=steady, pixels=pixels)
    rows, cols = (jnp.asarray(_whitening(noise, count), dtype) for count in shape)
    scale = jnp.asarray(noise.variance**-0.5, dtype)
    return Likelihood(scale, rows, cols, steady=steady, pixels=pixels)


def mean_square(pixels: int, dtype: jnp.dtype, rest: float | None = None) -> Likelihood:
    """Likelihood whose objective is the mean squared error of `pixels` pixels."""
    beyond = None if rest is None else jnp.asarray(rest, dtype)
    return Likelihood(jnp.asarray(pixels**-0.5, dtype), rest=beyond, pixels=pixels)


def _whitening(noise: NoiseModel, count: int) -> np.ndarray:
    """Matrix (count, count) that makes unit noise along one axis independent."""
    values, vectors = np.linalg.eigh(noise.correlation(count))
    floored = np.maximum(values, SPECTRAL_FLOOR)
    return (vectors / np.sqrt(floored)) @ vectors.T
