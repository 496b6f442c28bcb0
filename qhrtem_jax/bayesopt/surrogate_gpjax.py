"""The Gaussian process of GPJax (optional extra `gpjax`) behind the functions of `gp`.

GPJax computes kernel, factor, likelihood and prediction; priors, limits and the optimizer of the
hyperparameters are those of `gp.fit`. Rows that are padding keep their place with a noise that no
signal stands out of, so that shapes stay fixed. One output. GPJax factorises by LAPACK: not for
`vmap` on the CPU (see `numerics.positive_definite`).
"""

from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qhrtem_jax.bayesopt import gp
from qhrtem_jax.errors import InputError

JITTER = 1e-8
PADDING_DEVIATION = 1e6
"""Noise of rows that are padding, in deviations of the standardised output."""


def require() -> None:
    """**Raises:** `InputError` where GPJax is not installed."""
    if find_spec("gpjax") is None:
        raise InputError(
            "the surrogate gpjax: GPJax is not installed, expected the extra `gpjax` "
            "(pip install 'qhrtem_jax[gpjax]'; it wants jax below 0.11, thus Python 3.11)"
        )


class GpjaxPosterior(gp.Posterior):
    """A `gp.Posterior` whose covariances and predictions are GPJax's."""

    process: Any  # gpjax.conditioning.ExactPosterior

    def kernel(self, a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return self.process.prior.kernel.cross_covariance(a, b)

    def mean(self, points: Float[Array, "m d"]) -> Float[Array, "m outputs"]:
        return self.process(points, covariance="diagonal").mean[:, None]

    def variance(self, points: Float[Array, "m d"]) -> Float[Array, " m"]:
        signal = jnp.exp(self.hyperparameters.log_outputscale)
        return jnp.maximum(self.process(points, covariance="diagonal").variance, 1e-10 * signal)

    def covariance(self, points: Float[Array, "m d"]) -> Float[Array, "m m"]:
        return self.process(points).covariance()


def _condition(x: Array, y: Array, mask: Array, h: gp.Hyperparameters) -> Any:
    import gpjax  # takes seconds

    length, signal = jnp.exp(h.log_lengthscale), jnp.exp(h.log_outputscale)
    # its constructor takes arrays; pyright reads the types of the fields
    kernel = gpjax.kernels.Matern52(lengthscale=length, variance=signal)  # pyright: ignore[reportArgumentType]
    prior = gpjax.gps.Prior(kernel, gpjax.mean_functions.Constant(h.mean), jitter=JITTER)
    noise = jnp.where(mask, jnp.exp(0.5 * h.log_noise), PADDING_DEVIATION)
    model = prior * gpjax.likelihoods.Gaussian(obs_stddev=noise)
    y = jnp.where(mask[:, None], y, jax.lax.stop_gradient(h.mean))
    return model.condition(gpjax.Dataset(X=x, y=y))


def log_marginal_likelihood(
    x: Float[Array, "n d"],
    y: Float[Array, "n 1"],
    mask: Bool[Array, " n"],
    h: gp.Hyperparameters,
) -> Float[Array, ""]:
    """log p(y | x) as GPJax has it, less the share of the padding."""
    padding = jnp.sum(~mask) * jnp.log(jnp.sqrt(2.0 * jnp.pi) * PADDING_DEVIATION)
    return _condition(x, y, mask, h).log_marginal_likelihood + padding


def fit(
    x: Float[Array, "n d"],
    y: Float[Array, "n 1"],
    mask: Bool[Array, " n"],
    start: gp.Hyperparameters,
    prior: gp.Prior,
    evaluations: int | Int[Array, ""],
    extent: gp.Extent = 1.0,
) -> gp.Hyperparameters:
    """As `gp.fit`, by GPJax's likelihood."""
    return gp.fit(x, y, mask, start, prior, evaluations, log_marginal_likelihood, extent)


def condition(
    x: Float[Array, "n d"],
    y: Float[Array, "n 1"],
    mask: Bool[Array, " n"],
    h: gp.Hyperparameters,
) -> GpjaxPosterior:
    """As `gp.condition`, by GPJax's factor."""
    process = _condition(x, y, mask, h)
    unit = jnp.eye(x.shape[0], dtype=x.dtype)
    inverse = jax.scipy.linalg.cho_solve((process.cholesky_factor, True), unit)
    both = mask[:, None] & mask[None, :]
    weights = jnp.where(mask[:, None], process.representer_weights, 0.0)
    return GpjaxPosterior(x, mask, h, jnp.where(both, inverse, 0.0), weights, process)
