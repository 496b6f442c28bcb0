"""What a Gaussian process says about the score, which is maximised.

- `ScalarSurrogate`: a GP over the (logarithm of the) objective; score = -objective, standardised.
- `CompositeSurrogate`: a GP over principal components of a residual vector; the objective is its
  mean square, known in closed form (Astudillo and Frazier, ICML 2019, "composite functions"),
  score = -log of it.

Both offer `marginal` (mean and deviation of the score, point by point), `samples` (joint) and
`paths` (whole sample functions), so that every acquisition works with either.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qhrtem_jax.bayesopt.gp import Posterior
from qhrtem_jax.numerics.positive_definite import factorise

FEATURES = 256
"""Random Fourier features of the prior part of a sample path."""

JITTER, LARGE_JITTER = 1e-8, 1e-6
"""Added to the diagonal of a covariance, in units of the prior's variance; the larger one where the
smaller one does not make it positive definite."""


class Surrogate(eqx.Module):
    """Posterior belief about the score."""

    posterior: eqx.AbstractVar[Posterior]

    @abc.abstractmethod
    def score(self, latent: Float[Array, "*batch outputs"]) -> Float[Array, "*batch"]:
        """Score of latent (standardised) outputs."""

    @abc.abstractmethod
    def marginal(
        self, points: Float[Array, "m d"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """Mean and standard deviation of the score at each point."""

    @property
    def outputs(self) -> int:
        return self.posterior.weights.shape[1]

    def samples(
        self, points: Float[Array, "q d"], base: Float[Array, "s q outputs"]
    ) -> Float[Array, "s q"]:
        """Joint samples of the score at the points, from standard normal `base` samples."""
        covariance = self.posterior.covariance(points)
        unit = jnp.exp(self.posterior.hyperparameters.log_outputscale) * jnp.eye(points.shape[0])
        # rounding leaves a posterior that knows nearly all with variances below zero
        tried, _ = factorise(jax.lax.stop_gradient(covariance + JITTER * unit))
        enough = jnp.all(jnp.isfinite(tried))
        factor, _ = factorise(covariance + jnp.where(enough, JITTER, LARGE_JITTER) * unit)
        return self.score(self.posterior.mean(points) + jnp.einsum("ij,sjo->sio", factor, base))

    def paths(
        self, key: PRNGKeyArray, count: int
    ) -> Callable[[Int[Array, ""], Float[Array, " d"]], Float[Array, ""]]:
        """`count` independent sample functions: called with an index and a point.

        Pathwise conditioning (Wilson et al., ICML 2020): a prior function of random Fourier
        features (Matern-5/2 is a Student-t spectrum with 5 degrees of freedom), corrected at the
        data.
        """
        gp = self.posterior
        d, n = gp.x.shape[1], gp.x.shape[0]
        if gp.hyperparameters.kernel != "matern52":
            raise ValueError("sample functions are drawn from the spectrum of Matern-5/2 only")
        k_normal, k_chi, k_phase, k_weight, k_noise = jax.random.split(key, 5)
        normal = jax.random.normal(k_normal, (FEATURES, d), gp.x.dtype)
        chi2 = 2.0 * jax.random.gamma(k_chi, 2.5, (FEATURES, 1), gp.x.dtype)
        h = gp.hyperparameters
        omega = normal * jnp.sqrt(5.0 / chi2) * jnp.exp(-h.log_lengthscale)
        phase = jax.random.uniform(k_phase, (FEATURES,), gp.x.dtype, 0.0, 2.0 * jnp.pi)
        amplitude = jnp.sqrt(2.0 * jnp.exp(h.log_outputscale) / FEATURES)
        weight = jax.random.normal(k_weight, (count, FEATURES, self.outputs), gp.x.dtype)

        def features(points: Array) -> Array:
            return amplitude * jnp.cos(points @ omega.T + phase)

        noise = jnp.exp(0.5 * h.log_noise) * jax.random.normal(
            k_noise, (count, n, self.outputs), gp.x.dtype
        )
        prior_at_data = jnp.einsum("nf,cfo->cno", features(gp.x), weight)
        correction = gp.weights - jnp.einsum("nm,cmo->cno", gp.inverse, prior_at_data + noise)

        def evaluate(index: Array, point: Array) -> Array:
            prior = features(point) @ weight[index]
            update = gp.cross(point[None])[0] @ correction[index]
            return self.score(h.mean + prior + update)

        return evaluate


class ScalarSurrogate(Surrogate):
    """One output: the standardised objective."""

    posterior: Posterior

    def score(self, latent: Float[Array, "*batch outputs"]) -> Float[Array, "*batch"]:
        return -latent[..., 0]

    def marginal(
        self, points: Float[Array, "m d"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        mean = self.posterior.mean(points)[:, 0]
        return -mean, jnp.sqrt(self.posterior.variance(points))


class CompositeSurrogate(Surrogate):
    """Principal components of a residual vector; its mean square is the objective."""

    posterior: Posterior
    offset: Float[Array, " outputs"]  # residual at latent zero, along each component
    scale: Float[Array, " outputs"]  # residual per unit of latent
    floor: Float[Array, ""]  # sum of squares outside the components

    def score(self, latent: Float[Array, "*batch outputs"]) -> Float[Array, "*batch"]:
        residual = self.offset + self.scale * latent
        return -jnp.log(jnp.sum(residual**2, axis=-1) + self.floor)

    def marginal(
        self, points: Float[Array, "m d"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """Moments of the sum of squares of normals, carried to its logarithm as a log-normal."""
        mean = self.offset + self.scale * self.posterior.mean(points)
        variance = self.scale**2 * self.posterior.variance(points)[:, None]
        first = jnp.sum(mean**2 + variance, axis=1) + self.floor
        second = jnp.sum(2.0 * variance**2 + 4.0 * mean**2 * variance, axis=1)
        spread = jnp.log1p(second / first**2)
        return -(jnp.log(first) - 0.5 * spread), jnp.sqrt(spread)


def principal_components(
    residuals: Float[Array, "n pixels"], mask: Bool[Array, " n"], count: int
) -> tuple[
    Float[Array, "n components"],
    Float[Array, " components"],
    Float[Array, " components"],
    Float[Array, ""],
]:
    """(scores of unit deviation, offset, scale, floor) for `CompositeSurrogate`.

    Residuals are scaled so that their sum of squares is the objective.
    """
    weight = mask.astype(residuals.dtype)[:, None]
    number = jnp.maximum(jnp.sum(weight), 2.0)
    centre = jnp.sum(residuals * weight, axis=0) / number
    deviation = (residuals - centre) * weight
    gram = (deviation @ deviation.T).astype(jnp.float64)
    values, vectors = jnp.linalg.eigh(gram)
    values = jnp.maximum(values[::-1][:count], 1e-12 * values[-1])
    vectors = vectors[:, ::-1][:, :count]
    axes = (vectors.T.astype(residuals.dtype) @ deviation) / jnp.sqrt(values)[:, None]
    scale = jnp.sqrt(values / number)
    offset = axes @ centre
    floor = jnp.maximum(centre @ centre - offset @ offset, 0.0)
    return vectors * jnp.sqrt(number), offset, scale, floor
