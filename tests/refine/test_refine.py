"""Least squares and its errors against SciPy, finite differences and repeated noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.uncertainty import fit_errors
from tests.matching.test_matching import correlated
from tests.physics import crystal

T = jnp.linspace(0.0, 2.0, 30)


def decay(u):
    return u[0] * jnp.exp(-4.0 * u[1] * T) + u[2]


def residual_function(data):
    def residuals(u):
        return decay(u) - data, jax.jacfwd(decay)(u)

    return residuals


def solver(**options):
    return LevenbergMarquardt(jnp.full(3, 0.5), jnp.full(3, jnp.inf), **options)


def test_agrees_with_scipy_inside_and_at_bounds():
    rng = np.random.default_rng(0)
    for truth in ([0.8, 0.3, 0.1], [0.9, 0.5, 0.0]):
        data = decay(jnp.array(truth)) + 0.02 * rng.normal(size=30)
        data = data - (0.1 if truth[2] == 0.0 else 0.0)  # pulls the offset below its bound
        found = solver().run(residual_function(data), jnp.full(3, 0.5))
        peer = scipy.optimize.least_squares(
            lambda u, data=data: np.asarray(decay(jnp.asarray(u)) - data),
            np.full(3, 0.5),
            bounds=(0, 1),
            xtol=1e-14,
            ftol=1e-14,
        )
        np.testing.assert_allclose(found.u, peer.x, atol=2e-3)
        assert float(found.cost) == pytest.approx(2 * peer.cost, rel=1e-4)
        assert found.converged


def test_prior_pulls_by_its_weight():
    """One linear parameter: the minimum is the precision-weighted mean."""
    method = LevenbergMarquardt(jnp.array([0.2]), jnp.array([0.1]))
    found = method.run(lambda u: ((u - 0.8) / 0.05, jnp.ones((1, 1)) / 0.05), jnp.array([0.5]))
    expected = (0.2 / 0.01 + 0.8 / 0.0025) / (1 / 0.01 + 1 / 0.0025)
    assert float(found.u[0]) == pytest.approx(expected, abs=1e-5)


def test_nan_is_refused():
    def residuals(u):
        r, j = residual_function(decay(jnp.array([0.8, 0.3, 0.1])))(u)
        return jnp.where(u[1] > 0.4, jnp.nan, r), j

    found = solver().run(residuals, jnp.array([0.5, 0.1, 0.5]))
    assert np.all(np.isfinite(found.u))
    assert float(found.cost) < 1e-4


def test_where_a_start_gives_nothing_the_fit_ends_there():
    """Beside one that goes on; of one call, only the start is looked at."""
    there = decay(jnp.array([0.8, 0.3, 0.1]))

    def residuals(u):
        r, j = residual_function(there)(u)
        return jnp.where(u[1] > 0.4, jnp.nan, r), j

    starts = jnp.array([[0.5, 0.5, 0.5], [0.5, 0.1, 0.5]])
    found = jax.vmap(lambda start: solver().run(residuals, start))(starts)
    np.testing.assert_array_equal(found.u[0], starts[0])
    assert not np.isfinite(found.cost[0])
    assert found.iterations.tolist()[0] == 1
    assert float(found.cost[1]) < 1e-4
    once = solver(max_iterations=1).run(residuals, starts[1])
    np.testing.assert_array_equal(once.u, starts[1])
    assert float(once.cost) == pytest.approx(float(jnp.sum(residuals(starts[1])[0] ** 2)))


def test_runs_many_starts_at_once():
    data = decay(jnp.array([0.8, 0.3, 0.1]))
    starts = jax.random.uniform(jax.random.key(0), (7, 3))
    found = jax.vmap(lambda s: solver().run(residual_function(data), s))(starts)
    alone = solver().run(residual_function(data), starts[3])
    np.testing.assert_allclose(found.u[3], alone.u, atol=1e-6)


@pytest.fixture(scope="module")
def simulator():
    return crystal.simulator(image_shape=(36, 48))


FREE = tuple(name for name in NAMES if name != "thickness")


def test_jacobian_agrees_with_finite_differences(simulator):
    vector = crystal.vector(**crystal.EVERYTHING)
    image, jacobian = jax.jit(lambda v: image_and_jacobian(simulator, v, FREE))(jnp.asarray(vector))
    np.testing.assert_allclose(image, simulator.image(jnp.asarray(vector)), atol=1e-12)
    steps = np.maximum(np.abs(vector), 1e-3) * 1e-5
    plus = np.asarray(simulator.images(vector + np.diag(steps)))
    minus = np.asarray(simulator.images(vector - np.diag(steps)))
    for k, name in enumerate(FREE):
        numeric = (plus - minus)[INDEX[name]] / (2 * steps[INDEX[name]])
        error = np.linalg.norm(jacobian[k] - numeric) / np.linalg.norm(numeric)
        assert error < 2e-5, name


def test_errors_match_the_scatter_over_fresh_noise():
    """A linear model fitted by least squares to correlated noise, 600 times."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:24, 0:30] / 24.0
    jacobian = np.stack([np.ones_like(x), np.sin(6 * x), np.cos(5 * y), x * y])
    flat = jacobian.reshape(4, -1)
    noise = NoiseModel(2e-4, (0.598, 0.252, 0.054, 0.008))
    pseudo = np.linalg.pinv(flat.T)
    estimates, chi2 = [], []
    for _ in range(600):
        sample = correlated(rng, x.shape)
        estimate = pseudo @ sample.ravel()
        residual = sample - np.tensordot(estimate, jacobian, 1)
        errors = fit_errors(residual, jacobian, noise, 2e-4, np.full(4, np.inf))
        estimates.append(estimate)
        chi2.append(errors.chi2_reduced)
    scatter = np.std(estimates, axis=0)
    np.testing.assert_allclose(errors.std_noise, scatter, rtol=0.12)
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.03)
    white = fit_errors(residual, jacobian, NoiseModel(2e-4), 2e-4, np.full(4, np.inf))
    assert np.all(scatter > 1.7 * white.std_noise), "taking the noise as white claims too much"


def test_errors_know_of_noise_that_grows_with_the_intensity():
    """A linear model, in pixels and in a basis, against the scatter over fresh noise."""
    rng = np.random.default_rng(6)
    _, x = np.mgrid[0:24, 0:30] / 24.0
    image = 1.0 + 0.8 * np.sin(4 * x)
    jacobian = np.stack([np.clip(image - 1.0, 0, None), np.clip(1.0 - image, 0, None)])
    noise = NoiseModel(2e-4, (0.598, 0.252, 0.054, 0.008), growth=1.0)
    deviation = noise.deviation(image)
    pseudo = np.linalg.pinv(jacobian.reshape(2, -1).T)
    residuals = [deviation * correlated(rng, x.shape) for _ in range(600)]
    estimates = [pseudo @ r.ravel() for r in residuals]
    scatter = np.std(estimates, axis=0)
    known = 2e-4, np.full(2, np.inf)
    errors = fit_errors(residuals[0], jacobian, noise, *known, None, image)
    np.testing.assert_allclose(errors.std_noise, scatter, rtol=0.12)
    basis = np.linalg.qr(rng.normal(size=(24, 24)))[0], np.linalg.qr(rng.normal(size=(30, 30)))[0]
    inside = basis[0].T @ jacobian @ basis[1]
    in_basis = fit_errors(residuals[0], inside, noise, *known, basis, image)
    np.testing.assert_allclose(in_basis.std_noise, errors.std_noise, rtol=1e-9)
    unaware = fit_errors(residuals[0], jacobian, noise, *known).std_noise
    assert scatter[0] > 1.15 * unaware[0]
    assert scatter[1] < 0.85 * unaware[1]


def test_an_idle_parameter_is_not_determined():
    rng = np.random.default_rng(5)
    jacobian = np.stack([rng.normal(size=(16, 16)), np.zeros((16, 16))])
    residual = 0.01 * rng.normal(size=(16, 16))
    errors = fit_errors(residual, jacobian, NoiseModel(1e-4), 1e-4, np.full(2, np.inf))
    assert errors.determined.tolist() == [True, False]


def test_twins_are_reported_as_correlated():
    rng = np.random.default_rng(6)
    one = rng.normal(size=(16, 16))
    jacobian = np.stack([one, one + 0.1 * rng.normal(size=(16, 16))])
    errors = fit_errors(0.01 * one, jacobian, NoiseModel(1e-4), 1e-4, np.full(2, np.inf))
    pairs = errors.strong_correlations(("a", "b"))
    assert pairs[0]["r"] < -0.9
