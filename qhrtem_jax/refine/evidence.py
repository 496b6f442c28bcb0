"""How probable a model is that was fitted: its evidence, by Laplace's approximation."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import lsq_linear

from qhrtem_jax.matching.likelihood import make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.refine.uncertainty import least_known


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """What is known of a fit around its best point: the `residual` (simulation less experiment),
    the `jacobian` of the simulation by the unit cube of the free coordinates, these, and their
    priors (`prior_std` infinite: none but the bounds); `places`: which of these are shifts of
    columns from where the model has them."""

    residual: Float[np.ndarray, "rows cols"]
    jacobian: Float[np.ndarray, "p rows cols"]
    unit: Float[np.ndarray, " p"]
    prior_mean: Float[np.ndarray, " p"]
    prior_std: Float[np.ndarray, " p"]
    places: Bool[np.ndarray, " p"]

    def held(self, share: float) -> "LinearFit":
        """With columns held so much closer to their places."""
        closer = np.where(self.places, share, 1.0) * self.prior_std
        return dataclasses.replace(self, prior_std=closer)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Parts of -2 log evidence: chi-square of the image and of the priors at the best point, and
    the logarithm of how much smaller the volume of what remains possible is than that of what was
    before (squared)."""

    image: float
    priors: float
    volume: float

    @property
    def log(self) -> float:
        """Natural logarithm of the evidence, up to what all models of one image have in common."""
        return -0.5 * (self.image + self.priors + self.volume)


class _Seen(NamedTuple):
    """A linear model in units of the noise, of pixels only what the parameters can change; `rest`:
    chi-square of what they cannot."""

    residual: Float[np.ndarray, " k"]
    slopes: Float[np.ndarray, "k p"]
    rest: float


def _seen(fit: LinearFit, noise: NoiseModel) -> _Seen:
    likelihood = make_likelihood(noise, fit.residual.shape, jnp.dtype(float))
    r = np.asarray(likelihood.residual(fit.residual, np.zeros_like(fit.residual)), float)
    basis, slopes = np.linalg.qr(np.asarray(likelihood.slopes(jnp.asarray(fit.jacobian)), float))
    inside = basis.T @ r
    return _Seen(inside, slopes, float(r @ r - inside @ inside))


def laplace(fit: LinearFit, noise: NoiseModel) -> Evidence:
    """Evidence of a model whose image has `noise` (D. J. C. MacKay, Neural Computation 4, 415,
    1992, eq. 2.4).

    With A = J^T J + 1 / s^2 over the free coordinates u of the unit cube, whose priors are
    Gaussians of deviation s (in the volume at most that of a uniform distribution, which there is
    with bounds alone): -2 log Z = |r|^2 + sum ((u - m) / s)^2 + log det A + sum log s^2, all at the
    minimum within the bounds of the linear model around where the fit has ended.
    """
    return _of_seen(fit, _seen(fit, noise))


def _of_seen(fit: LinearFit, seen: _Seen) -> Evidence:
    pull = 1.0 / fit.prior_std  # 0 where there are bounds alone
    away = np.where(pull > 0.0, fit.unit - fit.prior_mean, 0.0)
    system = np.concatenate([seen.slopes, np.diag(pull)])
    # a little beyond, where the fit has ended at a bound but for rounding
    low, high = np.minimum(-fit.unit, -1e-9), np.maximum(1.0 - fit.unit, 1e-9)
    step = lsq_linear(system, -np.concatenate([seen.residual, pull * away]), (low, high), "bvls").x
    left = seen.residual + seen.slopes @ step
    deviation = least_known(fit.prior_std)
    curvature = seen.slopes.T @ seen.slopes + np.diag(deviation**-2)
    return Evidence(
        seen.rest + float(left @ left),
        float(np.sum((pull * (away + step)) ** 2)),
        float(np.linalg.slogdet(curvature)[1] + 2.0 * np.sum(np.log(deviation))),
    )


@dataclasses.dataclass(frozen=True)
class OverPlaces:
    """Evidence of a model whose columns lie about as far from its places as the image says: the
    logarithm of the mean over how closely they are held (alike probable by its logarithm), the
    most likely of these as a share of the prior, and the parts there."""

    log: float
    share: float
    best: Evidence


CLOSEST, STEPS = 0.03, 13
"""Columns are held up to so many times closer than by their prior."""


def over_places(fit: LinearFit, noise: NoiseModel) -> OverPlaces:
    """The evidence over how closely columns are held to their places: a crystal is one that has
    its columns where it says, up to what strain and the model's faults move them by, which is not
    known before (a hyperparameter, as in MacKay's paper)."""
    shares = np.geomspace(CLOSEST, 1.0, STEPS)
    seen = _seen(fit, noise)
    every = [_of_seen(fit.held(float(share)), seen) for share in shares]
    logs = np.array([evidence.log for evidence in every])
    best = int(np.argmax(logs))
    mean = logs[best] + np.log(np.mean(np.exp(logs - logs[best])))
    return OverPlaces(float(mean), float(shares[best]), every[best])
