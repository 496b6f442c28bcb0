"""The Gaussian process against GPJax and BoTorch."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.bayesopt import gp
from qhrtem_jax.bayesopt.acquisition import qucb_value
from qhrtem_jax.bayesopt.surrogate import ScalarSurrogate

# step by step, each operation would be compiled on its own
condition = eqx.filter_jit(gp.condition)
fit = eqx.filter_jit(gp.fit)
likelihood_of = eqx.filter_jit(gp.log_marginal_likelihood)


@eqx.filter_jit
def predicted(posterior, points):
    """(means, variances, covariance) at `points`."""
    mean, variance = posterior.mean(points)[:, 0], posterior.variance(points)
    return mean, variance, posterior.covariance(points)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(40, 6))
    y = np.sin(3.0 * x).sum(1) + 0.1 * rng.normal(size=40)
    h = gp.Hyperparameters(
        jnp.log(rng.uniform(0.3, 2.0, size=6)),
        jnp.log(1.4),
        jnp.log(0.02),
        jnp.asarray(0.3),
    )
    return x, y, h, rng.uniform(size=(9, 6))


def padded(x, y, size):
    extra = size - len(x)
    mask = jnp.arange(size) < len(x)
    return (
        jnp.concatenate([x, 7.0 * np.ones((extra, x.shape[1]))]),
        jnp.concatenate([y, 1e3 * np.ones(extra)])[:, None],
        mask,
    )


@pytest.mark.skipif(find_spec("gpjax") is None, reason="needs the extra `gpjax`")
def test_agrees_with_gpjax(case, tmp_path):
    x, y, h, points = case
    np.savez(
        tmp_path / "case.npz",
        x=x,
        y=y,
        points=points,
        lengthscale=np.exp(h.log_lengthscale),
        variance=np.exp(h.log_outputscale),
        noise=np.exp(h.log_noise),
        mean=h.mean,
    )
    files = [str(tmp_path / "case.npz"), str(tmp_path / "gpjax.npz")]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.bayesopt.gpjax_posterior", *files],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    theirs = np.load(files[1])
    px, py, mask = padded(x, y, 64)
    mean, variance, covariance = predicted(condition(px, py, mask, h), points)
    np.testing.assert_allclose(mean, theirs["mean"], atol=1e-6)
    np.testing.assert_allclose(covariance, theirs["covariance"], atol=1e-6)
    np.testing.assert_allclose(variance, np.diag(theirs["covariance"]), atol=1e-6)
    likelihood = float(likelihood_of(px, py, mask, h))
    assert likelihood == pytest.approx(float(theirs["likelihood"]), rel=1e-6)


def test_padding_changes_nothing(case):
    x, y, h, points = case
    values = []
    for size in (40, 48, 100):
        px, py, mask = padded(x, y, size)
        mean, variance, _ = predicted(condition(px, py, mask, h), points)
        values.append(np.concatenate([mean, variance, [likelihood_of(px, py, mask, h)]]))
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-9)


def test_gradient_of_the_likelihood_agrees_with_finite_differences():
    rng = np.random.default_rng(4)
    x, y, mask = padded(rng.uniform(size=(70, 3)), rng.normal(size=70), 90)
    y = jnp.concatenate([y, jnp.where(mask[:, None], jnp.sin(5.0 * x[:, :1]), 0.0)], axis=1)
    h = gp.Hyperparameters(
        jnp.log(jnp.array([0.3, 0.6, 1.2])), jnp.log(1.3), jnp.log(0.02), jnp.asarray(0.1)
    )
    flat, unravel = jax.flatten_util.ravel_pytree(h)

    @jax.jit
    def value(theta):
        return gp.log_marginal_likelihood(x, y, mask, unravel(theta))

    step = 1e-5
    expected = [
        (value(flat.at[k].add(step)) - value(flat.at[k].add(-step))) / (2.0 * step)
        for k in range(flat.size)
    ]
    np.testing.assert_allclose(jax.jit(jax.grad(value))(flat), expected, rtol=1e-6)


def test_posterior_and_qucb_agree_with_botorch():
    path = Path(__file__).parent / "data" / "botorch_qucb.json"
    case = {k: np.array(v) for k, v in json.loads(path.read_text()).items() if k != "botorch"}
    h = gp.Hyperparameters(
        jnp.log(case["lengthscale"]),
        jnp.log(case["outputscale"]),
        jnp.log(case["noise"]),
        jnp.asarray(case["mean"]),
    )
    x, y, mask = padded(case["x_train"], case["y_train"], 48)
    points = jnp.asarray(case["x_test"])
    mean, _, covariance = predicted(condition(x, y, mask, h), points)
    np.testing.assert_allclose(mean, case["posterior_mean"], atol=1e-6)
    np.testing.assert_allclose(covariance, case["posterior_covariance"], atol=1e-6)
    # our scores are maximised and the surrogate's are minus the GP: flip the data for the value
    flipped = ScalarSurrogate(condition(x, -y, mask, h_with_mean(h, -h.mean)))
    # mirrored base samples, since minus the GP's samples are used
    samples = flipped.samples(points, -jnp.asarray(case["base_samples"])[..., None])
    mean = -flipped.posterior.mean(points)[:, 0]
    value = qucb_value(mean, samples, jnp.asarray(case["beta"]))
    assert float(value) == pytest.approx(float(case["qucb"]), abs=1e-6)


def h_with_mean(h, mean):
    return gp.Hyperparameters(h.log_lengthscale, h.log_outputscale, h.log_noise, mean)


def test_fit_finds_the_hyperparameters_of_a_sample(case):
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.uniform(size=(150, 2)))
    truth = gp.Hyperparameters(
        jnp.log(jnp.array([0.2, 0.7])), jnp.log(1.0), jnp.log(0.01), jnp.asarray(0.0)
    )
    covariance = gp.covariance(x, x, truth) + 0.01 * jnp.eye(150)
    y = jnp.linalg.cholesky(covariance) @ rng.normal(size=150)
    prior = gp.Prior(lengthscale_sigma=3.0)
    mask = jnp.ones(150, bool)
    found = fit(x, y[:, None], mask, prior.start(2), prior, 80)
    lengths = np.exp(found.log_lengthscale)
    np.testing.assert_allclose(lengths, [0.2, 0.7], rtol=0.2)
    assert float(jnp.exp(found.log_noise)) == pytest.approx(0.01, rel=0.25)
    gained = likelihood_of(x, y[:, None], mask, found)
    assert gained > likelihood_of(x, y[:, None], mask, truth) - 1.0


def test_fixed_noise_stays_fixed(case):
    x, y, _, _ = case
    prior = gp.Prior(fixed_noise=0.05)
    px, py, mask = padded(x, y, 48)
    found = fit(px, py, mask, prior.start(6), prior, 20)
    assert float(jnp.exp(found.log_noise)) == pytest.approx(0.05)


def test_gradient_is_finite_where_points_coincide():
    x = jnp.zeros((4, 3))
    h = gp.Prior().start(3)
    gradient = jax.grad(lambda a: jnp.sum(gp.covariance(a, x, h)))(x)
    assert np.all(np.isfinite(gradient))
