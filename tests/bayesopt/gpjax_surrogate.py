"""GPJax as the surrogate beside ours: python -m tests.bayesopt.gpjax_surrogate.

A process of its own, since importing GPJax changes global state (logging, filters).
"""

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  (after the switch to 64 bits)
import numpy as np  # noqa: E402

from qhrtem_jax.bayesopt import gp, surrogate_gpjax  # noqa: E402
from qhrtem_jax.bayesopt.acquisition import ACQUISITIONS  # noqa: E402
from qhrtem_jax.bayesopt.surrogate import ScalarSurrogate  # noqa: E402
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions  # noqa: E402
from tests.bayesopt.contract import stays_in_its_box_and_beats_random_points  # noqa: E402

USED, ROWS, DIMENSIONS = 20, 24, 3


def predictions() -> None:
    """The same likelihood and posterior as ours, with padding."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(ROWS, DIMENSIONS)))
    y = jnp.sin(5.0 * x[:, :1]) + x[:, 1:2] ** 2
    mask = jnp.arange(ROWS) < USED
    x, y = jnp.where(mask[:, None], x, 7.0), jnp.where(mask[:, None], y, 1e3)
    h = gp.Hyperparameters(
        jnp.log(jnp.asarray([0.3, 0.6, 1.2])), jnp.log(1.5), jnp.log(1e-3), jnp.asarray(0.2)
    )
    points = jnp.asarray(rng.uniform(size=(7, DIMENSIONS)))
    ours, theirs = gp.condition(x, y, mask, h), surrogate_gpjax.condition(x, y, mask, h)
    np.testing.assert_allclose(theirs.mean(points), ours.mean(points), atol=1e-6)
    np.testing.assert_allclose(theirs.variance(points), ours.variance(points), atol=1e-6)
    np.testing.assert_allclose(theirs.covariance(points), ours.covariance(points), atol=1e-6)
    np.testing.assert_allclose(
        surrogate_gpjax.log_marginal_likelihood(x, y, mask, h),
        gp.log_marginal_likelihood(x, y, mask, h),
        rtol=1e-6,
    )


def contract() -> None:
    """What the tests ask of every acquisition on our own surrogates."""
    x = jnp.asarray(np.random.default_rng(2).uniform(size=(60, DIMENSIONS)))
    y = -jnp.sum((x - 0.5) ** 2, axis=1, keepdims=True)
    h = gp.Hyperparameters(jnp.zeros(DIMENSIONS), jnp.zeros(()), jnp.log(1e-4), jnp.mean(y))
    surrogate = ScalarSurrogate(surrogate_gpjax.condition(x, y, jnp.ones(60, bool), h))
    for name in ACQUISITIONS:
        stays_in_its_box_and_beats_random_points(name, surrogate, x)


def search() -> None:
    """Finds the bottom of a bowl."""
    turbo = Turbo(
        dimensions=DIMENSIONS,
        batch=4,
        max_evaluations=32,
        options=TurboOptions(acquisition="thompson", surrogate="gpjax", initial_points=12),
    )
    key = jax.random.key(0)
    state, values = turbo.init(key), []
    for k in range(turbo.capacity // turbo.batch):
        points, state = turbo.ask(state, jax.random.fold_in(key, k))
        found = jnp.sum((points - 0.4) ** 2, axis=1)
        state, _ = turbo.tell(state, points, found)
        values.append(float(found.min()))
    assert min(values) < 0.01, values
    assert min(values) < 0.3 * min(values[:3]), values


if __name__ == "__main__":
    predictions()
    contract()
    search()
