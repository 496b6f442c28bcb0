"""The evidence of fits against the integral that it stands for."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.refine.evidence import LinearFit, laplace, over_places

SHAPE, VARIANCE = (5, 6), 0.3
NOISE = NoiseModel(VARIANCE, (), "given")


def linear(number, size, *, off=0.0):
    """(a linear model of an image around a point `off` its best one, the image, prior std)."""
    rng = np.random.default_rng(number)
    jacobian = rng.normal(size=(size, *SHAPE))
    mean, std = np.full(size, 0.5), rng.uniform(0.02, 0.06, size)
    truth = mean + std * rng.normal(size=size)
    image = np.tensordot(truth, jacobian, 1) + np.sqrt(VARIANCE) * rng.normal(size=SHAPE)
    flat = jacobian.reshape(size, -1)
    curvature = flat @ flat.T / VARIANCE + np.diag(std**-2)
    best = np.linalg.solve(curvature, flat @ image.ravel() / VARIANCE + mean / std**2)
    unit = best + off * np.sqrt(np.diagonal(np.linalg.inv(curvature)))
    residual = np.tensordot(unit, jacobian, 1) - image
    return LinearFit(residual, jacobian, unit, mean, std, np.ones(size, bool)), image


def integral(fit, image):
    """Density of the image under the model, priors and noise."""
    flat = fit.jacobian.reshape(len(fit.unit), -1)
    covariance = VARIANCE * np.eye(image.size) + flat.T @ np.diag(fit.prior_std**2) @ flat
    return multivariate_normal(fit.prior_mean @ flat, covariance).logpdf(image.ravel())


@pytest.mark.parametrize("off", [0.0, 0.7])
def test_of_linear_models_it_is_exact(off):
    """Where the fit has ended at the minimum, and somewhat beside it."""
    common = 0.5 * np.prod(SHAPE) * np.log(2.0 * np.pi * VARIANCE)
    for number, size in ((1, 3), (2, 5), (3, 8)):
        fit, image = linear(number, size, off=off)
        assert laplace(fit, NOISE).log - common == pytest.approx(integral(fit, image), abs=1e-4)


def test_a_parameter_that_does_nothing_costs_nothing():
    fit, _ = linear(4, 4)
    idle = LinearFit(
        fit.residual,
        np.concatenate([fit.jacobian, np.zeros((1, *SHAPE))]),
        np.append(fit.unit, 0.3),
        np.append(fit.prior_mean, 0.0),
        np.append(fit.prior_std, np.inf),
        np.append(fit.places, False),
    )
    assert laplace(idle, NOISE).log == pytest.approx(laplace(fit, NOISE).log, abs=1e-6)


def test_what_lies_at_a_bound_stays_there():
    """A gradient that leads out of the bounds is no gain."""
    fit, _ = linear(5, 3)
    free = np.full(3, np.inf)
    unit, none = np.array([0.0, 1.0, 0.0]), np.zeros(3, bool)
    held = LinearFit(fit.residual, 1e-3 * fit.jacobian, unit, free, free, none)
    assert laplace(held, NOISE).image == pytest.approx(np.sum(fit.residual**2) / VARIANCE)


def test_columns_at_their_places_speak_for_a_model():
    """How far columns lie off is found, and a model that has them where they are is preferred."""
    rng = np.random.default_rng(6)
    size, std = 12, np.full(12, 0.05)
    jacobian, mean = 300.0 * rng.normal(size=(size, *SHAPE)), np.full(size, 0.5)
    scatter = 0.1 * rng.normal(size=size)  # of the prior
    residual, found = np.sqrt(VARIANCE) * rng.normal(size=SHAPE), []
    for off in (scatter, scatter + np.where(np.arange(size) < 4, 0.8, 0.0)):
        fit = LinearFit(residual, jacobian, mean + off * std, mean, std, np.ones(size, bool))
        found.append(over_places(fit, NOISE))
    near, far = found
    assert 0.05 < near.share < 0.2 < far.share < 1.0
    assert near.log - far.log > 10.0
