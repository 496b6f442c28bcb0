"""The evidence of fits against the integral that it stands for."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.refine.evidence import CLOSEST, STEPS, LinearFit, laplace, over_places

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


def test_a_parameter_with_bounds_alone_is_integrated_over_them():
    """Determined by the image, its share of the unit cube remains; a prior far wider than the
    bounds changes nothing."""
    fit, _ = linear(5, 2, off=0.5)
    alone = dataclasses.replace(
        fit, jacobian=10.0 * fit.jacobian, unit=np.array([0.4, 0.7]), prior_std=np.full(2, np.inf)
    )
    at = np.linspace(0.0, 1.0, 401)
    u = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1)
    missed = fit.residual + np.tensordot(u - alone.unit, alone.jacobian, 1)
    chi2 = np.sum(missed**2, axis=(-2, -1)) / VARIANCE
    whole = np.log(np.mean(np.exp(-0.5 * (chi2 - chi2.min())))) - 0.5 * chi2.min()
    # 2 pi / 12 for each: a Gaussian as wide as the bounds stands for these in the volume
    assert laplace(alone, NOISE).log + np.log(2.0 * np.pi / 12.0) == pytest.approx(whole, abs=0.1)
    wide = dataclasses.replace(alone, prior_mean=np.array([-20.0, 30.0]), prior_std=np.full(2, 1e6))
    assert laplace(wide, NOISE).log == pytest.approx(laplace(alone, NOISE).log, abs=1e-6)


@pytest.mark.parametrize("beside", [0.0, 1e-3, 0.02])
def test_the_minimum_lies_within_the_bounds(beside):
    """Of two parameters that do nearly the same, one at or near its bound: what one cannot do, the
    other does, and no more."""
    rng = np.random.default_rng(8)
    one, other = rng.normal(size=(2, *SHAPE))
    jacobian = 300.0 * np.stack([one, one + 1e-3 * other])
    unit, free = np.array([beside, 0.5]), np.full(2, np.inf)
    residual = np.tensordot([0.05, -0.03], jacobian, 1) + 0.5 * rng.normal(size=SHAPE)
    fit = LinearFit(residual, jacobian, unit, free, free, np.zeros(2, bool))
    steps = np.linspace(-beside, 0.1, 4001)
    flat = jacobian.reshape(2, -1)
    least = np.inf
    for step in steps:  # the best of the second for each of the first
        left = residual.ravel() + step * flat[0]
        second = np.clip(-left @ flat[1] / (flat[1] @ flat[1]), -0.5, 0.5)
        least = min(least, float(np.sum((left + second * flat[1]) ** 2)) / VARIANCE)
    assert laplace(fit, NOISE).image == pytest.approx(least, rel=1e-4)


def test_the_mean_is_over_how_closely_columns_are_held():
    """Against the mean of exact integrals, a factor apart each."""
    fit, image = linear(7, 4)
    shares = CLOSEST ** np.linspace(1.0, 0.0, STEPS)
    exact = [integral(fit.held(float(share)), image) for share in shares]
    common = 0.5 * np.prod(SHAPE) * np.log(2.0 * np.pi * VARIANCE)
    expected = np.log(np.mean(np.exp(exact))) + common
    found = over_places(fit, NOISE)
    assert found.log == pytest.approx(expected, abs=1e-4)
    assert found.share == pytest.approx(shares[int(np.argmax(exact))])


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
