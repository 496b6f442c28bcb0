"""Trains a network: epochs of Adam with a rate that falls, until unseen examples get no better.

Where it stands is a value, which a run keeps, so that an interrupted training goes on to the same
network.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.seal import Arrays

UNSEEN = 0.1
"""Share of the examples that networks are not trained on, and by which they are judged."""

Loss = Callable[[Any, Any, PRNGKeyArray], Float[Array, ""]]
"""Of a network, some examples and a key."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """At most so many `epochs`, in batches of so many examples; it ends where the unseen examples
    have not got better for `patience` epochs."""

    epochs: int
    batch: int = 64
    rate: float = 2e-3
    patience: int = 20
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Standing:
    """After so many epochs: the parameters, Adam's memory, the best parameters for unseen examples
    so far with their loss, and for how many epochs there were no better ones."""

    epoch: int
    parameters: Any
    memory: Any
    best: Any
    best_loss: float
    waited: int

    def kept(self) -> Arrays:
        """As a checkpoint keeps it."""
        numbers = np.array([self.epoch, self.best_loss, self.waited])
        leaves = jax.tree.leaves((self.parameters, self.memory, self.best))
        return {"standing": numbers} | {f"leaf_{k}": np.asarray(v) for k, v in enumerate(leaves)}

    def restored(self, saved: Arrays) -> "Standing":
        """Where an interrupted training of the same network stood."""
        tree = jax.tree.structure((self.parameters, self.memory, self.best))
        leaves = [jnp.asarray(saved[f"leaf_{k}"]) for k in range(tree.num_leaves)]
        epoch, loss, waited = saved["standing"]
        parameters, memory, best = jax.tree.unflatten(tree, leaves)
        return Standing(int(epoch), parameters, memory, best, float(loss), int(waited))


def train(
    network: nnx.Module,
    loss: Loss,
    examples: tuple[Shaped[np.ndarray, "n ..."], ...],
    schedule: Schedule,
    tick: Callable[[int, int], None],
    saved: Arrays | None = None,
    keep: Callable[[Arrays], None] = lambda arrays: None,
) -> nnx.Module:
    """The network with the parameters that are best for unseen examples.

    **Arguments:** `examples`, arrays of the same length; `saved`, where an interrupted training
    stood; `keep` takes where this one stands, now and then.
    """
    graph, parameters = nnx.split(network)
    count = len(examples[0])
    order = np.random.default_rng(schedule.seed).permutation(count)
    unseen = max(1, min(count // 2, round(UNSEEN * count)))
    batch = min(schedule.batch, count - unseen)
    batches = (count - unseen) // batch
    adam = optax.adam(
        optax.cosine_decay_schedule(schedule.rate, schedule.epochs * batches, alpha=0.02)
    )
    device = tuple(jnp.asarray(example) for example in examples)
    seen = order[unseen:]

    def cost(parameters: Any, these: Any, key: PRNGKeyArray) -> Array:
        return loss(nnx.merge(graph, parameters), these, key)

    @jax.jit
    def epoch(
        device: tuple[Array, ...], parameters: Any, memory: Any, rows: Array, key: PRNGKeyArray
    ) -> tuple:
        def step(carry: tuple, these: tuple[Array, PRNGKeyArray]) -> tuple[tuple, None]:
            parameters, memory = carry
            which, key = these
            part = tuple(example[which] for example in device)
            slope = jax.grad(cost)(parameters, part, key)
            change, memory = adam.update(slope, memory)
            return (optax.apply_updates(parameters, change), memory), None

        keys = jax.random.split(key, batches)
        (parameters, memory), _ = jax.lax.scan(step, (parameters, memory), (rows, keys))
        judged = tuple(example[order[:unseen]] for example in device)
        return parameters, memory, cost(parameters, judged, jax.random.key(0))

    here = Standing(0, parameters, adam.init(parameters), parameters, float("inf"), 0)
    if saved is not None:
        here = here.restored(saved)
    while here.epoch < schedule.epochs and here.waited < schedule.patience:
        tick(here.epoch, schedule.epochs)
        rng = np.random.default_rng([schedule.seed, here.epoch])
        rows = rng.permutation(seen)[: batches * batch].reshape(batches, batch)
        key = jax.random.fold_in(jax.random.key(schedule.seed), here.epoch)
        parameters, memory, value = epoch(
            device, here.parameters, here.memory, jnp.asarray(rows), key
        )
        if not np.isfinite(value):
            raise NonFiniteError(f"training: the loss is {value} after {here.epoch + 1} epochs")
        better = float(value) < here.best_loss
        here = Standing(
            here.epoch + 1,
            parameters,
            memory,
            parameters if better else here.best,
            float(value) if better else here.best_loss,
            0 if better else here.waited + 1,
        )
        if here.epoch % 10 == 0:
            keep(here.kept())
    tick(schedule.epochs, schedule.epochs)
    return nnx.merge(graph, here.best)
