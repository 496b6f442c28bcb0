"""Many independent Gaussian processes and images in one program: python -m tests.side_by_side.

Run as a process of its own, on two cores: batched LAPACK calls at once waited for each other for
ever on XLA's thread pool (see `numerics.positive_definite`), FFTs are said to have done the same.
"""

import os
import sys

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  (after the switch to 64 bits)

from qhrtem_jax.bayesopt import gp  # noqa: E402
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions  # noqa: E402
from tests.physics import crystal  # noqa: E402

SIDE_BY_SIDE, BATCH = 6, 100


def processes(repeats: int) -> None:
    """Conditioning and likelihood gradients of `SIDE_BY_SIDE` batches of `BATCH` processes."""
    x = jax.random.uniform(jax.random.key(0), (SIDE_BY_SIDE, BATCH, 64, 4))
    y = jnp.sum(jnp.sin(3.0 * x), axis=-1, keepdims=True)
    mask, start = jnp.ones(64, bool), gp.Prior().start(4)

    def one(x, y):
        slope = jax.grad(lambda h: gp.log_marginal_likelihood(x, y, mask, h))(start)
        return gp.condition(x, y, mask, start).weights, slope.log_lengthscale

    @jax.jit
    def all_at_once(x, y):
        return [jax.vmap(one)(x[k], y[k]) for k in range(SIDE_BY_SIDE)]

    for _ in range(repeats):
        jax.block_until_ready(all_at_once(x, y))


def searches(steps: int) -> None:
    """Steps of `BATCH` vmapped searches."""
    options = TurboOptions(acquisition="qucb")
    turbo = Turbo(dimensions=4, batch=8, max_evaluations=8 * steps, options=options)
    keys = jax.random.split(jax.random.key(0), BATCH)
    states = jax.vmap(turbo.init)(keys)
    ask, tell = jax.jit(jax.vmap(turbo.ask)), jax.jit(jax.vmap(turbo.tell))
    for _ in range(steps):
        points, states = ask(states, keys)
        states, _ = tell(states, points, jnp.sum((points - 0.3) ** 2, axis=-1))
    jax.block_until_ready(states)


def images(repeats: int) -> None:
    """Batches of images of `SIDE_BY_SIDE` thicknesses, by the simulator's FFTs."""
    simulator = crystal.simulator(slices=6)
    vectors = jnp.asarray(crystal.vector(thickness=6)) + jnp.zeros((8, 1))

    @jax.jit
    def all_at_once(vectors):
        return [jax.vmap(simulator.image)(vectors + 1e-6 * k) for k in range(SIDE_BY_SIDE)]

    for _ in range(repeats):
        jax.block_until_ready(all_at_once(vectors))


def main() -> int:
    if hasattr(os, "sched_setaffinity"):  # before XLA makes its threads
        os.sched_setaffinity(0, range(min(2, os.cpu_count() or 1)))
    # three rounds of each: with LAPACK the first of them never ended
    processes(3)
    searches(3)
    images(3)
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
