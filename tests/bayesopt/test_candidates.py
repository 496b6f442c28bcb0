"""The next points among candidates: utilities as BoTorch has them, batches as if one by one."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import kernels as sklearn_kernels

from qhrtem_jax.bayesopt import gp
from qhrtem_jax.bayesopt.candidates import MARGIN, UTILITIES, Choice, next_batch
from qhrtem_jax.bayesopt.kernels import KERNELS

CASE = json.loads((Path(__file__).parent / "data" / "botorch_analytic.json").read_text())


def hyperparameters(kernel, mean=CASE["mean"]):
    return gp.Hyperparameters(
        jnp.log(jnp.array(CASE["lengths"])),
        jnp.log(jnp.asarray(CASE["outputscale"])),
        # what `gp` adds to the diagonal for stability
        jnp.log(jnp.asarray(CASE["noise"] - 1e-8 * CASE["outputscale"])),
        jnp.asarray(mean),
        jnp.log(jnp.asarray(CASE["mixture"])) if kernel == "rational_quadratic" else None,
        kernel,
    )


def posterior(kernel, x, y, padding=3):
    """Of a training set with some rows that are none."""
    rows = len(x) + padding
    inputs, outputs = np.zeros((rows, 2)), np.zeros((rows, 1))
    inputs[: len(x)], outputs[: len(x), 0] = x, y
    mask = jnp.arange(rows) < len(x)
    return gp.condition(jnp.asarray(inputs), jnp.asarray(outputs), mask, hyperparameters(kernel))


@pytest.mark.parametrize("kernel", KERNELS)
def test_utilities_agree_with_botorch(kernel):
    expected = CASE["kernels"][kernel]
    known = posterior(kernel, CASE["x"], CASE["y"])
    points = jnp.asarray(CASE["points"])
    mean, variance = known.mean(points)[:, 0], known.variance(points)
    np.testing.assert_allclose(mean, expected["mean"], atol=1e-7)
    np.testing.assert_allclose(variance, expected["variance"], atol=1e-7)
    for name, utility in UTILITIES.items():
        found = utility(
            mean, jnp.sqrt(variance), jnp.asarray(expected["best"]), jnp.asarray(CASE["beta"])
        )
        np.testing.assert_allclose(found, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("kernel", "theirs"),
    [
        ("matern52", sklearn_kernels.Matern(1.0, nu=2.5)),
        ("rbf", sklearn_kernels.RBF(1.0)),
        (
            "rational_quadratic",
            sklearn_kernels.RationalQuadratic(length_scale=1.0, alpha=CASE["mixture"]),
        ),
    ],
)
def test_kernels_are_those_of_scikit_learn(kernel, theirs):
    x = np.random.default_rng(1).uniform(size=(9, 2))
    found = gp.covariance(jnp.asarray(x), jnp.asarray(x), hyperparameters(kernel))
    expected = CASE["outputscale"] * theirs(x / np.array(CASE["lengths"]))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def one_by_one(kernel, name, cost, candidates, free, here, batch):
    """The same batch, each time with a new Gaussian process that believes in its means."""
    x, y, found = list(CASE["x"]), list(CASE["y"]), []
    first = posterior(kernel, x, y)
    best = float(first.mean(jnp.asarray(CASE["x"]))[:, 0].max())
    beliefs = np.asarray(first.mean(jnp.asarray(candidates)))[:, 0]
    free = free.copy()
    for _ in range(batch):
        known = posterior(kernel, x, y)
        mean, variance = beliefs, np.asarray(known.variance(jnp.asarray(candidates)))
        value = np.asarray(
            UTILITIES[name](
                jnp.asarray(mean),
                jnp.sqrt(jnp.asarray(variance)),
                jnp.asarray(best + MARGIN.get(name, 0.0)),
                jnp.asarray(CASE["beta"]),
            )
        )
        gain = (value - value[free].min()) / np.ptp(value[free])
        way = np.hypot(*(candidates - here).T) / 2.0**0.5
        k = int(np.argmax(np.where(free, gain - cost * way, -np.inf)))
        found.append(k)
        free[k], here = False, candidates[k]
        x.append(list(candidates[k]))
        y.append(float(beliefs[k]))
        best = max(best, float(beliefs[k]))
    return found


@pytest.mark.parametrize(("name", "cost"), [("ei", 0.0), ("pi", 0.5), ("ucb", 0.5)])
def test_a_batch_is_chosen_as_if_one_by_one(name, cost):
    candidates = np.random.default_rng(5).uniform(size=(60, 2))
    free = np.arange(60) % 7 != 0
    here = np.array([0.1, 0.9])
    choice = Choice(name, jnp.asarray(CASE["beta"]), jnp.asarray(cost))
    found = next_batch(
        choice,
        posterior("rbf", CASE["x"], CASE["y"]),
        jnp.asarray(candidates),
        jnp.asarray(free),
        jnp.asarray(here),
        6,
    )
    assert found.tolist() == one_by_one("rbf", name, cost, candidates, free, here, 6)
    assert len(set(found.tolist())) == 6
    assert free[np.asarray(found)].all()


def test_the_mixture_of_length_scales_is_learned():
    """From a function that is rough on one scale and smooth on another."""
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(80, 2))
    truth = hyperparameters("rational_quadratic")
    covariance = np.asarray(gp.covariance(jnp.asarray(x), jnp.asarray(x), truth))
    y = np.linalg.cholesky(covariance + 1e-6 * np.eye(80)) @ rng.normal(size=80)
    prior = gp.Prior(kernel="rational_quadratic")
    mask = jnp.ones(80, bool)
    data = jnp.asarray(x), jnp.asarray((y - y.mean())[:, None] / y.std()), mask
    found = gp.fit(*data, prior.start(2), prior, 60)
    better = gp.log_marginal_likelihood(*data, found) - gp.log_marginal_likelihood(
        *data, prior.start(2)
    )
    assert float(better) > 5.0
    assert found.kernel == "rational_quadratic"
    assert abs(float(found.log_mixture)) > 1e-3
