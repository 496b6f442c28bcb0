"""L-BFGS, acquisitions, surrogates, trust region, space: each on its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from qhrtem_jax.bayesopt import gp, lbfgs, trust_region
from qhrtem_jax.bayesopt.acquisition import (
    ACQUISITIONS,
    antithetic_normal,
    log_expected_improvement,
    log_probability_of_improvement,
    qucb_value,
)
from qhrtem_jax.bayesopt.space import Space, Variable, stochastic_round
from qhrtem_jax.bayesopt.surrogate import (
    CompositeSurrogate,
    ScalarSurrogate,
    principal_components,
)
from qhrtem_jax.errors import InputError
from tests.bayesopt.contract import marginal, stays_in_its_box_and_beats_random_points


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def test_lbfgs_minimises_inside_and_at_bounds():
    d = 6
    start = jnp.full(d, -0.5)
    value_and_grad = jax.value_and_grad(rosenbrock)
    free, value = lbfgs.minimise(value_and_grad, start, -2.0 * jnp.ones(d), 2.0 * jnp.ones(d), 200)
    np.testing.assert_allclose(free, 1.0, atol=1e-3)
    assert value < 1e-6
    low, high = -2.0 * jnp.ones(d), jnp.full(d, 0.6)
    bounded, value = lbfgs.minimise(value_and_grad, start, low, high, 200)
    peer = scipy.optimize.minimize(
        lambda x: float(rosenbrock(x)),
        np.asarray(start),
        jac=lambda x: np.asarray(jax.grad(rosenbrock)(jnp.asarray(x))),
        bounds=[(-2.0, 0.6)] * d,
        method="L-BFGS-B",
    )
    assert float(value) == pytest.approx(peer.fun, rel=1e-4)
    assert np.all(bounded <= 0.6)


def test_lbfgs_survives_values_that_are_not_finite():
    def holed(x):
        return jnp.where(x[0] > 0.9, jnp.nan, (x[0] - 0.8) ** 2)

    x, _ = lbfgs.minimise(
        jax.value_and_grad(holed), jnp.array([0.0]), jnp.zeros(1), jnp.ones(1), 40, first_step=1.0
    )
    assert float(x[0]) == pytest.approx(0.8, abs=1e-4)


def test_qucb_of_one_point_is_the_paper_s_upper_bound():
    """For q = 1, E|Y - mu| = sigma sqrt(2 / pi): qUCB = mu + sqrt(beta) sigma."""
    base = antithetic_normal(jax.random.key(0), 40_000, (1,))
    value = qucb_value(jnp.array([0.7]), 0.7 + 0.3 * base, jnp.asarray(2.0))
    assert float(value) == pytest.approx(0.7 + np.sqrt(2.0) * 0.3, rel=5e-3)


def test_log_expected_improvement_far_below_the_best():
    mean, deviation = jnp.array([0.5, -1.0, -8.0, -60.0]), jnp.array([0.7, 0.5, 1.0, 1.5])
    z = np.asarray(mean) / np.asarray(deviation)
    # E[max(m + s n, 0)] = s (phi(z) + z Phi(z)); the tail in logarithms, by quadrature
    expected = []
    for zk, sk in zip(z, np.asarray(deviation), strict=True):
        integral, _ = scipy.integrate.quad(
            lambda t, zk=zk: t * np.exp(zk * t - 0.5 * t**2), 0, 50 + max(zk, 0)
        )
        expected.append(np.log(sk) + np.log(integral) - 0.5 * zk**2 - 0.5 * np.log(2 * np.pi))
    found = log_expected_improvement(mean, deviation, jnp.asarray(0.0))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_log_probability_of_improvement_far_below_the_best():
    mean, deviation = np.array([0.5, -1.0, -8.0, -60.0]), np.array([0.7, 0.5, 1.0, 1.5])
    found = log_probability_of_improvement(
        jnp.asarray(mean), jnp.asarray(deviation), jnp.asarray(0.2)
    )
    np.testing.assert_allclose(found, scipy.stats.norm.logcdf((mean - 0.2) / deviation), rtol=1e-6)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.uniform(size=(60, 3)))
    residuals = jnp.stack(
        [jnp.sin(2.0 * x[:, 0] + k) + x[:, 1] * np.cos(k) - 0.3 * x[:, 2] for k in range(20)],
        axis=1,
    )
    return x, residuals / np.sqrt(20.0)


@pytest.fixture(scope="module")
def composite(data):
    """(surrogate of three components, as many as the residuals have, their scores)."""

    @jax.jit
    def made(x, residuals, mask):
        scores, offset, scale, floor = principal_components(residuals, mask, 3)
        h = gp.fit(x, scores, mask, gp.Prior().start(3), gp.Prior(), 60)
        return gp.condition(x, scores, mask, h), offset, scale, floor, scores

    *parts, scores = made(*data, jnp.arange(60) < 50)
    return CompositeSurrogate(*parts), scores


def test_principal_components_reproduce_the_objective(data, composite):
    surrogate, scores = composite
    objective = jnp.sum(data[1] ** 2, axis=1)
    np.testing.assert_allclose(jnp.exp(-surrogate.score(scores[:50])), objective[:50], rtol=1e-4)


def test_composite_predicts_points_it_has_not_seen(data, composite):
    surrogate, _ = composite
    truth = -jnp.log(jnp.sum(data[1][50:] ** 2, axis=1))
    mean, deviation = marginal(surrogate, data[0][50:])
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.3
    assert np.all(deviation > 0.0)


def test_composite_marginal_agrees_with_its_samples(data, composite):
    surrogate, _ = composite
    points = jnp.asarray(np.random.default_rng(8).uniform(size=(5, 3)))
    base = jax.random.normal(jax.random.key(1), (4000, 5, 3), jnp.float64)
    samples = eqx.filter_jit(surrogate.samples)(points, base)
    mean, deviation = marginal(surrogate, points)
    np.testing.assert_allclose(mean, samples.mean(0), atol=0.05)
    np.testing.assert_allclose(deviation, samples.std(0), rtol=0.25, atol=0.01)


@pytest.fixture(scope="module")
def scalar(data):
    x, residuals = data
    y = jnp.log(jnp.sum(residuals**2, axis=1))
    y = ((y - y.mean()) / y.std())[:, None]
    mask = jnp.ones(60, bool)

    @jax.jit
    def made(x, y, mask):
        h = gp.fit(x, y, mask, gp.Prior().start(3), gp.Prior(), 60)
        return gp.condition(x, y, mask, h)

    return ScalarSurrogate(made(x, y, mask))


def test_sample_paths_have_the_posterior_s_moments(scalar):
    surrogate = scalar
    points = jnp.asarray(np.random.default_rng(3).uniform(size=(4, 3)))

    @jax.jit
    def drawn(key, points):
        path = surrogate.paths(key, 600)
        return jax.vmap(lambda p: jax.vmap(lambda k: path(k, p))(jnp.arange(600)))(points)

    draws = drawn(jax.random.key(0), points)
    mean, deviation = marginal(surrogate, points)
    np.testing.assert_allclose(draws.mean(1), mean, atol=0.15 * float(deviation.max()) + 0.02)
    np.testing.assert_allclose(draws.std(1), deviation, rtol=0.35, atol=0.02)


@pytest.mark.parametrize("name", ACQUISITIONS)
@pytest.mark.parametrize("kind", ["scalar", "composite"])
def test_every_acquisition_stays_in_its_box_and_beats_random_points(
    data, scalar, composite, name, kind
):
    surrogate = scalar if kind == "scalar" else composite[0]
    stays_in_its_box_and_beats_random_points(name, surrogate, data[0])


def test_trust_region_grows_shrinks_and_restarts():
    options = trust_region.TrustRegionOptions()
    region = trust_region.start(options)
    for _ in range(options.successes_to_grow):
        region, collapsed = trust_region.update(region, jnp.asarray(True), options, 2)
    assert float(region.length) == 1.6
    assert not collapsed
    lengths = []
    for _ in range(40):
        region, collapsed = trust_region.update(region, jnp.asarray(False), options, 2)
        lengths.append(float(region.length))
        if collapsed:
            break
    assert collapsed
    assert lengths[-1] == options.initial_length
    assert min(lengths) >= options.minimum_length


def test_box_is_longer_where_the_function_varies_slowly():
    region = trust_region.start(trust_region.TrustRegionOptions(initial_length=0.2))
    low, high = trust_region.box(region, jnp.full(2, 0.5), jnp.array([0.5, 2.0]))
    sides = high - low
    assert float(sides[1] / sides[0]) == pytest.approx(4.0)
    assert float(jnp.prod(sides)) == pytest.approx(0.04)


def test_stochastic_rounding_keeps_the_expectation():
    theta = jnp.full(40_000, 3.3)
    drawn = stochastic_round(jax.random.key(0), theta)
    assert set(np.unique(drawn)) == {3.0, 4.0}
    assert float(drawn.mean()) == pytest.approx(3.3, abs=0.01)


def test_space_maps_and_refuses():
    space = Space((Variable("a", -1.0, 3.0), Variable("n", 4, 9, integer=True)))
    np.testing.assert_allclose(space.from_unit(jnp.array([0.5, 1.0])), [1.0, 9.0])
    np.testing.assert_allclose(space.to_unit(np.array([1.0, 9.0])), [0.5, 1.0])
    values = space.realise(jax.random.key(0), jnp.array([[0.3, 0.37]] * 50))
    assert np.all(values[:, 1] == np.round(values[:, 1]))
    np.testing.assert_allclose(values[:, 0], 0.2)
    with pytest.raises(InputError, match=r"low=2.*high=1"):
        Variable("C1", 2.0, 1.0)
