"""Exact Gaussian processes on padded data: one kernel with a length scale a dimension for several
outputs.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1 and
section 4.2. Data arrays have a fixed number of rows, of which `mask` says which are real, so that a
growing data set does not recompile. Everything is float64.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from qhrtem_jax.bayesopt import lbfgs
from qhrtem_jax.bayesopt.kernels import KERNELS, MIXED
from qhrtem_jax.numerics.positive_definite import factorise

Extent = float | Float[Array, ""]
"""Of the region that a model is asked for, against the one that the prior is made for."""


class Hyperparameters(eqx.Module):
    """Of a GP on standardised outputs over the unit cube, as logarithms where positive.

    `log_mixture`: of the rational quadratic kernel; others have none.
    """

    log_lengthscale: Float[Array, " d"]
    log_outputscale: Float[Array, ""]  # signal variance
    log_noise: Float[Array, ""]  # noise variance
    mean: Float[Array, ""]
    log_mixture: Float[Array, ""] | None = None
    kernel: str = eqx.field(static=True, default="matern52")


@dataclasses.dataclass(frozen=True)
class Prior:
    """Log-normal priors (median, sigma of the logarithm) and limits of the hyperparameters.

    The length scale's median grows with sqrt(d) (Hvarfner, Hellsten, Nardi, ICML 2024); `extent`
    multiplies it where a model is asked for a smaller region only. `fixed_noise`: noise variance
    of standardised outputs that is not learned (the paper's GP).
    """

    lengthscale_at_1d: float = 0.8
    lengthscale_sigma: float = 1.0
    outputscale: float = 1.0
    outputscale_sigma: float = 1.0
    noise: float = 1e-3
    noise_sigma: float = 1.5
    fixed_noise: float | None = None
    kernel: str = "matern52"

    def lengthscale(self, d: int) -> float:
        return self.lengthscale_at_1d * d**0.5

    def start(self, d: int, extent: Extent = 1.0) -> Hyperparameters:
        """The prior's medians."""
        noise = self.noise if self.fixed_noise is None else self.fixed_noise
        return Hyperparameters(
            jnp.full(d, jnp.log(self.lengthscale(d) * extent), jnp.float64),
            jnp.asarray(jnp.log(self.outputscale), jnp.float64),
            jnp.asarray(jnp.log(noise), jnp.float64),
            jnp.zeros((), jnp.float64),
            jnp.zeros((), jnp.float64) if self.kernel in MIXED else None,
            self.kernel,
        )

    def log_density(self, h: Hyperparameters, extent: Extent = 1.0) -> Float[Array, ""]:
        centre = jnp.log(self.lengthscale(h.log_lengthscale.shape[0]) * extent)
        length = (h.log_lengthscale - centre) / self.lengthscale_sigma
        scale = (h.log_outputscale - jnp.log(self.outputscale)) / self.outputscale_sigma
        total = jnp.sum(length**2) + scale**2
        if self.fixed_noise is None:
            total = total + ((h.log_noise - jnp.log(self.noise)) / self.noise_sigma) ** 2
        if h.log_mixture is not None:
            total = total + h.log_mixture**2
        return -0.5 * total


def covariance(
    a: Float[Array, "n d"], b: Float[Array, "m d"], h: Hyperparameters
) -> Float[Array, "n m"]:
    """Covariance of the kernel with one length scale a dimension."""
    scale = jnp.exp(-h.log_lengthscale)
    a, b = a * scale, b * scale
    square = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1) - 2.0 * a @ b.T
    mixture = jnp.exp(jnp.zeros((), a.dtype) if h.log_mixture is None else h.log_mixture)
    return jnp.exp(h.log_outputscale) * KERNELS[h.kernel](square, mixture)


def _covariance(x: Array, mask: Array, h: Hyperparameters) -> Array:
    """The masked covariance with noise; rows that are padding become the unit matrix."""
    both = mask[:, None] & mask[None, :]
    signal = jnp.exp(h.log_outputscale)
    diagonal = jnp.where(mask, jnp.exp(h.log_noise) + 1e-8 * signal, 1.0)
    return jnp.where(both, covariance(x, x, h), 0.0) + jnp.diag(diagonal)


@jax.custom_vjp
def _log_density(covariance: Float[Array, "n n"], y: Float[Array, "n outputs"]) -> Array:
    """-y^T K^-1 y / 2 - log det K / 2, summed over outputs (without the constant)."""
    return _log_density_forward(covariance, y)[0]


def _log_density_forward(covariance: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    factor, inverse = factorise(covariance)
    white = inverse @ y
    log_determinant = jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * jnp.sum(white**2) - y.shape[1] * log_determinant, (inverse, white)


def _log_density_backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    """With a = K^-1 y, the derivative by K is (a a^T - outputs K^-1) / 2 (equation 5.9): half the
    work of differentiating through the Cholesky factor."""
    inverse, white = kept
    weights = inverse.T @ white
    by_covariance = 0.5 * (weights @ weights.T - white.shape[1] * _square(inverse))
    return slope * by_covariance, -slope * weights


def _square(inverse: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Inverse of the matrix, from the inverse of its Cholesky factor."""
    # the barrier keeps the transpose out of the product, which is twice as slow with it on CPUs
    return jax.lax.optimization_barrier(inverse.T) @ inverse


_log_density.defvjp(_log_density_forward, _log_density_backward)


def log_marginal_likelihood(
    x: Float[Array, "n d"],
    y: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
    h: Hyperparameters,
) -> Float[Array, ""]:
    """log p(y | x), summed over independent outputs that share the kernel."""
    centred = jnp.where(mask[:, None], y - h.mean, 0.0)
    constant = 0.5 * jnp.sum(mask) * y.shape[1] * jnp.log(2.0 * jnp.pi)
    return _log_density(_covariance(x, mask, h), centred) - constant


LogLikelihood = Callable[
    [Float[Array, "n d"], Float[Array, "n outputs"], Bool[Array, " n"], Hyperparameters],
    Float[Array, ""],
]
"""As `log_marginal_likelihood`."""


def fit(
    x: Float[Array, "n d"],
    y: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
    start: Hyperparameters,
    prior: Prior,
    evaluations: int | Int[Array, ""],
    log_likelihood: LogLikelihood = log_marginal_likelihood,
    extent: Extent = 1.0,
) -> Hyperparameters:
    """Maximum a posteriori hyperparameters, from `start`, by `evaluations` gradient calls.

    The likelihood is averaged over outputs, so that many outputs do not drown the prior.
    """
    flat, unravel = ravel_pytree(start)
    d = start.log_lengthscale.shape[0]
    centre = jnp.log(prior.lengthscale(d) * extent)
    free_noise = prior.fixed_noise is None
    low = dataclasses.replace(
        start,
        log_lengthscale=jnp.full(d, jnp.minimum(centre - 5.0, jnp.log(0.05))),
        log_outputscale=jnp.log(1e-2),
        log_noise=jnp.log(1e-6) if free_noise else start.log_noise,
        mean=jnp.asarray(-3.0),
        log_mixture=None if start.log_mixture is None else jnp.asarray(-4.0),
    )
    high = dataclasses.replace(
        start,
        log_lengthscale=jnp.full(d, centre + 4.0),
        log_outputscale=jnp.log(1e2),
        log_noise=jnp.log(1.0) if free_noise else start.log_noise,
        mean=jnp.asarray(3.0),
        log_mixture=None if start.log_mixture is None else jnp.asarray(4.0),
    )

    def loss(theta: Array) -> Array:
        h = unravel(theta)
        count = jnp.maximum(jnp.sum(mask), 1)
        likelihood = log_likelihood(x, y, mask, h) / y.shape[1]
        return -(likelihood + prior.log_density(h, extent)) / count

    lower, upper = (ravel_pytree(b)[0].astype(flat.dtype) for b in (low, high))
    best, value = lbfgs.minimise(
        jax.value_and_grad(loss), flat, lower, upper, evaluations, first_step=0.02
    )
    return unravel(jnp.where(jnp.isfinite(value), best, flat))


class Posterior(eqx.Module):
    """A GP conditioned once, queried often. Outputs share one kernel and are independent."""

    x: Float[Array, "n d"]
    mask: Bool[Array, " n"]
    hyperparameters: Hyperparameters
    inverse: Float[Array, "n n"]  # inverse of the noisy covariance; zero for padding
    weights: Float[Array, "n outputs"]

    def kernel(self, a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Covariance before any data."""
        return covariance(a, b, self.hyperparameters)

    def mean(self, points: Float[Array, "m d"]) -> Float[Array, "m outputs"]:
        return self.hyperparameters.mean + self.cross(points) @ self.weights

    def variance(self, points: Float[Array, "m d"]) -> Float[Array, " m"]:
        """Latent variance, the same for every output."""
        cross = self.cross(points)
        reduction = jnp.sum((cross @ self.inverse) * cross, axis=1)
        signal = jnp.exp(self.hyperparameters.log_outputscale)
        return jnp.maximum(signal - reduction, 1e-10 * signal)

    def covariance(self, points: Float[Array, "m d"]) -> Float[Array, "m m"]:
        """Joint latent covariance of the points, the same for every output."""
        cross = self.cross(points)
        prior = self.kernel(points, points)
        return prior - cross @ self.inverse @ cross.T

    def cross(self, points: Float[Array, "m d"]) -> Float[Array, "m n"]:
        """Covariance of the points with the data; zero for padding."""
        return jnp.where(self.mask, self.kernel(points, self.x), 0.0)


def condition(
    x: Float[Array, "n d"],
    y: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
    h: Hyperparameters,
) -> Posterior:
    """Posterior of the GP given the rows of (x, y) that `mask` marks."""
    _, inverse = factorise(_covariance(x, mask, h))
    both = mask[:, None] & mask[None, :]
    centred = jnp.where(mask[:, None], y - h.mean, 0.0)
    weights = inverse.T @ (inverse @ centred)
    return Posterior(x, mask, h, jnp.where(both, _square(inverse), 0.0), weights)
