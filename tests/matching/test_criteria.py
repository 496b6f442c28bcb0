"""Every criterion: its value by definition, and the contract that a search relies on."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats

from qhrtem_jax.matching import criteria
from qhrtem_jax.matching.criteria import CRITERIA, SumOfSquares, cross_correlation
from qhrtem_jax.matching.noise import NoiseModel, effective_variance
from qhrtem_jax.matching.objective import make_objective
from qhrtem_jax.physics.parameters import INDEX
from tests.physics import crystal


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:52]
    a = 1.0 + 0.2 * np.sin(x / 5.0) * np.cos(y / 4.0)
    return a, a + 0.05 * rng.normal(size=a.shape) + 0.01


NOISE = NoiseModel(3e-3, (0.3,))
"""No power is so low that whitening would have to raise it."""


def made(name, exp, noise=NOISE):
    return CRITERIA[name].of(jnp.asarray(exp), noise)


def by_definition(name, sim, exp):
    """Of arrays, by NumPy and scikit-image."""
    if name == "mse":
        return np.mean((sim - exp) ** 2)
    if name == "chi2":
        white = sim - exp
        for axis, count in enumerate(sim.shape):
            covariance = scipy.linalg.toeplitz([1.0, 0.3] + (count - 2) * [0.0])
            factor = np.linalg.cholesky(np.linalg.inv(covariance))
            white = np.tensordot(white, factor, (axis, 0)) if axis else factor.T @ white
        return np.mean(white**2) / NOISE.variance
    if name == "poisson":  # of a large dose, against the distribution's own probabilities
        dose = 1e5
        counts = np.round(dose * exp)
        best, found = (scipy.stats.poisson.logpmf(counts, m) for m in (counts, dose * sim))
        return np.mean(2.0 * (best - found)) / dose
    if name == "ncc":
        return 1.0 - np.corrcoef(sim.ravel(), exp.ravel())[0, 1]
    if name == "ssim":
        return 1.0 - scikit_ssim(sim, exp)
    if name == "contrast":
        return (sim.std() / sim.mean() - exp.std() / exp.mean()) ** 2
    if name == "r_factor":
        return np.abs(sim - exp).sum() / np.abs(exp).sum()
    raise AssertionError(f"{name}: enter its definition here")


def scikit_ssim(sim, exp):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage.metrics import structural_similarity

    _, full = structural_similarity(
        sim,
        exp,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=float(np.ptp(exp)),
        full=True,
    )
    return full[5:-5, 5:-5].mean()


@pytest.mark.parametrize("name", CRITERIA)
def test_its_value_is_that_of_its_definition(name, pair):
    sim, exp = pair
    value = made(name, exp)(jnp.asarray(sim), jnp.asarray(exp))
    assert float(value) == pytest.approx(by_definition(name, sim, exp), rel=1e-5)


@pytest.mark.parametrize("name", CRITERIA)
def test_its_slope_is_that_of_finite_differences(name, pair):
    sim, exp = (jnp.asarray(a) for a in pair)
    criterion = made(name, exp)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=sim.shape))
    slope = jnp.sum(jax.grad(criterion)(sim, exp) * direction)
    step = 1e-6
    more, less = (criterion(sim + s * direction, exp) for s in (step, -step))
    np.testing.assert_allclose(slope, (more - less) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("name", CRITERIA)
def test_like_images_cost_nothing_and_others_more(name, pair):
    sim, exp = (jnp.asarray(a) for a in pair)
    criterion = made(name, exp)
    assert float(criterion(exp, exp)) == pytest.approx(0.0, abs=1e-12)
    costs = [float(criterion(exp + k * (sim - exp), exp)) for k in (0.1, 0.5, 1.0)]
    assert 0.0 < costs[0] < costs[1] < costs[2]


INVARIANT = {
    "ncc": lambda image: 1.7 * image - 0.3,
    "contrast": lambda image: 1.7 * image[::-1],
}


@pytest.mark.parametrize("name", CRITERIA)
def test_what_it_is_blind_to(name, pair):
    """A level and a scale for the NCC, scale and places for the contrast, nothing for others."""
    exp = jnp.asarray(pair[1])
    for blind, change in INVARIANT.items():
        cost = float(made(name, exp)(change(exp), exp))
        if name == blind:
            assert cost == pytest.approx(0.0, abs=1e-12)
        else:
            assert cost > 1e-4


SQUARES = [name for name in CRITERIA if issubclass(CRITERIA[name], SumOfSquares)]


@pytest.mark.parametrize("name", SQUARES)
def test_its_information_is_that_of_the_noise(name, pair):
    """A small change that looks like the image costs as much -2 log likelihood as in white noise
    that hides the image as well."""
    exp = 1.0 + 0.3 * (pair[0] - 1.0)
    change = 1e-3 * np.roll(pair[0] - 1.0, 8, axis=1)  # as the image, a quarter of a period aside
    variance = effective_variance(NOISE, exp)
    criterion = made(name, exp)
    assert isinstance(criterion, SumOfSquares)
    cost = criterion(jnp.asarray(exp + change), jnp.asarray(exp))
    likelihood = criterion.information(jnp.asarray(exp), variance) * float(cost)
    assert likelihood == pytest.approx(np.sum(change**2) / variance, rel=0.05)


@pytest.mark.parametrize("name", SQUARES)
def test_what_it_expects_of_a_perfect_model(name):
    """Against images that differ by noise alone."""
    rng, exp = np.random.default_rng(5), np.ones((64, 80))
    exp += 0.2 * np.sin(np.arange(80) / 3.0)
    white = NoiseModel(1e-3)
    noisy = exp + rng.normal(scale=white.variance**0.5, size=exp.shape)
    criterion = made(name, noisy, white)
    assert isinstance(criterion, SumOfSquares)
    cost = float(criterion(jnp.asarray(exp), jnp.asarray(noisy)))
    assert cost == pytest.approx(criterion.expected(jnp.asarray(noisy), white), rel=0.1)


@pytest.mark.parametrize("name", [None, *SQUARES])
def test_the_objective_s_slopes_are_those_of_its_residual(name):
    simulator = crystal.simulator(image_shape=(36, 48))
    image = simulator.image(jnp.asarray(crystal.vector(C1=6.0, thickness=9)))
    criterion = None if name is None else made(name, image)
    objective = make_objective(simulator, image, thickness_range=(2, 20), criterion=criterion)
    at = image * 1.05 + 0.02 * jnp.sin(jnp.arange(image.size)).reshape(image.shape)
    directions = jax.random.normal(jax.random.key(0), (2, *image.shape), image.dtype)
    slopes, step = objective.slopes(at, directions), 1e-5
    for k, direction in enumerate(directions):
        more, less = (objective.residual(at + s * direction) for s in (step, -step))
        expected = (more - less) / (2 * step)
        np.testing.assert_allclose(slopes[:, k], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["poisson", "ncc", "ssim", "r_factor"])
def test_the_shift_is_that_of_the_criterion(name):
    """Against an image of another scale, with other noise in each part, where criteria differ."""
    simulator = crystal.simulator(image_shape=(36, 48))
    truth = crystal.vector(C1=6.0, A1_x=1.0, thickness=13, A0_x=0.011, A0_y=-0.008)
    image = 1.2 * simulator.image(jnp.asarray(truth))
    noise = 0.05 * jax.random.normal(jax.random.key(3), image.shape)
    experiment = image + noise * jnp.linspace(0, 2, image.shape[1])
    criterion = made(name, experiment)
    objective = make_objective(
        simulator, experiment, thickness_range=(13, 13), profile=("shift",), criterion=criterion
    )
    start = jnp.asarray(truth).at[jnp.array([INDEX["A0_x"], INDEX["A0_y"]])].set(0.0)
    found = objective.evaluate(start[None])

    @jax.jit
    def cost(shift):
        moved = start.at[INDEX["A0_x"]].set(shift[0]).at[INDEX["A0_y"]].set(shift[1])
        return criterion(simulator.image(moved), experiment)

    shift = np.asarray(found.vector[0, [INDEX["A0_x"], INDEX["A0_y"]]])
    assert float(found.cost[0]) == pytest.approx(float(cost(shift)), rel=1e-4)
    least = scipy.optimize.minimize(cost, [0.011, -0.008], method="Nelder-Mead")
    curvature = cost(least.x + np.array([3e-3, 0.0])) - least.fun
    assert cost(shift) - least.fun < 0.01 * curvature


def test_ncc_map_finds_a_shift(pair):
    sim, _ = pair
    moved = np.roll(sim, (2, -3), axis=(0, 1))
    values = np.asarray(criteria.ncc_map(jnp.asarray(sim), jnp.asarray(moved), 5))
    assert np.unravel_index(values.argmax(), values.shape) == (5 + 2, 5 - 3)
    assert values.max() == pytest.approx(1.0)


def test_ncc_map_of_a_large_image_is_the_same(pair, monkeypatch):
    sim, exp = (jnp.asarray(a) for a in pair)
    at_once = criteria.ncc_map(sim, exp, 3)
    monkeypatch.setattr(cross_correlation, "MOST_AT_ONCE", 10)
    np.testing.assert_allclose(criteria.ncc_map(sim, exp, 3), at_once, rtol=1e-6)


@pytest.mark.parametrize("name", [None, *CRITERIA])
def test_the_objective_s_cost_is_the_criterion_s(name):
    """An image of another scale, as of a vacuum that was measured wrongly: the thickness is that of
    the criterion, which finds the truth where it is blind to the scale."""
    simulator = crystal.simulator(image_shape=(36, 48))
    truth = crystal.vector(C1=6.0, A1_x=1.0, thickness=13)
    experiment = 1.4 * simulator.image(jnp.asarray(truth))
    criterion = None if name is None else made(name, experiment)
    objective = make_objective(
        simulator,
        experiment,
        thickness_range=(2, 20),
        profile=("thickness",),
        criterion=criterion,
    )
    found = objective.evaluate(jnp.asarray(truth)[None])
    best, image = int(found.vector[0, INDEX["thickness"]]), found.image[0]
    images = [
        simulator.image(jnp.asarray(truth).at[INDEX["thickness"]].set(t)) for t in range(2, 21)
    ]
    costs = [by_definition(name or "mse", np.asarray(i), np.asarray(experiment)) for i in images]
    assert best == 2 + int(np.argmin(costs))
    assert float(found.cost[0]) == pytest.approx(min(costs), rel=1e-4, abs=1e-9)
    assert float(found.mse[0]) == pytest.approx(float(np.mean((image - experiment) ** 2)), rel=1e-5)
    assert (best == 13) == (name in ("ncc", "contrast"))
