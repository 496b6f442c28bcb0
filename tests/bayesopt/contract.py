"""What every acquisition promises on every surrogate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.bayesopt.acquisition import Effort, propose
from qhrtem_jax.bayesopt.surrogate import CompositeSurrogate, ScalarSurrogate

marginal = eqx.filter_jit(lambda surrogate, points: surrogate.marginal(points))


def stays_in_its_box_and_beats_random_points(
    name: str, surrogate: ScalarSurrogate | CompositeSurrogate, known: Float[Array, "n 3"]
) -> None:
    """Proposals of the acquisition `name` in a box: inside of it, better than nearly all random
    points, the same for the same key. `known`: points that the surrogate has seen."""
    low, high = jnp.full(3, 0.2), jnp.full(3, 0.9)
    raw = jax.random.uniform(jax.random.key(3), (128, 3), jnp.float64, low, high)
    best = jnp.max(marginal(surrogate, known)[0])
    effort = Effort(128, 2, 12, 16)
    run = jax.jit(
        lambda key: propose(
            name, surrogate, key, raw, low, high, best, jnp.asarray(0.25), 4, effort
        )
    )
    points = run(jax.random.key(4))
    assert points.shape == (4, 3)
    assert np.all((points >= 0.2) & (points <= 0.9))
    chosen, others = (np.asarray(marginal(surrogate, p)[0]) for p in (points, raw))
    ranks = np.mean(others[:, None] < chosen, axis=0)
    assert np.mean(ranks) > 0.85, (name, ranks)
    assert np.min(ranks) > 0.5, (name, ranks)
    np.testing.assert_array_equal(points, run(jax.random.key(4)))
