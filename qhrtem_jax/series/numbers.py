"""Numbers of atoms over all frames: those that all frames together say, and when they change."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, whole_numbers
from qhrtem_jax.field.search import Search
from qhrtem_jax.refine.integer_least_squares import IntegerModel
from qhrtem_jax.refine.integers import Belief
from qhrtem_jax.series.chain import Path, follow, log_transitions
from qhrtem_jax.series.frames import FrameFit

REACH = 3
"""Numbers within so many atoms of those that all frames together say."""

ROUNDS = 3
"""Over all numbers, each given the others."""


@dataclasses.dataclass(frozen=True)
class Change:
    """Of a number (an index over all regions and chains): the first frame with another value, by
    how many atoms it differs, how probable it is that it changed so within one frame of then."""

    number: int
    frame: int
    atoms: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Of all frames: whole numbers, what is believed of those of each region, what changed. Of a
    number that does not change, all frames together say how probable it is; of one that does, its
    path, given all others."""

    whole: Float[np.ndarray, "frames regions chains"]
    beliefs: list[list[Belief]]
    changes: tuple[Change, ...]


def numbers_over_time(model: FieldModel, fits: list[FrameFit], rate: float) -> Numbers:
    """Numbers of all frames; `rate`: how often a number changes from one frame to the next."""
    models = [fit.integers for fit in fits]
    present = whole_numbers(model, fits[0].state)
    regions, begins = np.arange(len(present)), fits[0].state.stack.begins
    together = Search(model, regions, _sum(models), present, begins)
    states, costs = together.candidates()
    numbers = np.tile(states[int(np.argmin(costs))], (len(models), 1)).astype(float)
    paths: list[tuple[np.ndarray, Path]] = []
    for _ in range(ROUNDS):
        before, paths = numbers.copy(), []
        for k in range(numbers.shape[1]):
            values, path = _followed(models, together.penalty, numbers, k, rate)
            numbers[:, k] = values[path.best]
            paths.append((values, path))
        if np.array_equal(before, numbers):
            break
    alike = _longest_alike(numbers)
    begun = numbers[alike.start].reshape(present.shape)
    steady = Search(model, regions, _sum(models[alike]), begun, begins)
    heights = fits[0].state.stack.heights
    static = steady.beliefs(heights)
    tables = [chain for belief in static for chain in belief.numbers]
    beliefs = []
    for t, row in enumerate(numbers):
        believed = [
            tables[k] if len(set(path.best)) == 1 else _table(values, path.probability[t], row[k])
            for k, (values, path) in enumerate(paths)
        ]
        chains = present.shape[1]
        beliefs.append(
            [
                Belief(believed[r * chains : (r + 1) * chains], static[r].exits)
                for r in range(len(present))
            ]
        )
    changes = tuple(
        change for k, (values, path) in enumerate(paths) for change in _changes(k, values, path)
    )
    return Numbers(numbers.reshape(len(fits), *present.shape), beliefs, changes)


def _sum(models: list[IntegerModel]) -> IntegerModel:
    """Objective of numbers that are the same in all frames.

    **Raises:** `ValueError` where the models speak of different changes.
    """
    ours = [m.numbering for m in models]
    for name in ("base", "which", "times", "joint", "low", "high"):
        if any(not np.array_equal(getattr(n, name), getattr(ours[0], name)) for n in ours):
            raise ValueError(f"frames were linearised with another {name}")
    return dataclasses.replace(
        models[0],
        constant=float(sum(m.constant for m in models)),
        linear=np.sum([m.linear for m in models], axis=0),
        quadratic=np.sum([m.quadratic for m in models], axis=0),
    )


def _followed(
    models: list[IntegerModel],
    penalty: Callable[[np.ndarray], np.ndarray],
    numbers: Float[np.ndarray, "frames n"],
    k: int,
    rate: float,
) -> tuple[Float[np.ndarray, " values"], Path]:
    """(values of number `k` that are looked at, its path), given all other numbers; what is known
    of numbers without an image, the `penalty`, counts once for the series."""
    low = max(models[0].numbering.low[k], numbers[:, k].min() - REACH)
    high = min(models[0].numbering.high[k], numbers[:, k].max() + REACH)
    values = np.arange(low, high + 1.0)
    likelihood = np.empty((len(models), len(values)))
    for t, model in enumerate(models):
        states = np.tile(numbers[t], (len(values), 1))
        states[:, k] = values
        likelihood[t] = -0.5 * (model(states) + penalty(states) / len(models))
    return values, follow(likelihood, log_transitions(len(values), rate))


def _longest_alike(numbers: Float[np.ndarray, "frames n"]) -> slice:
    """The longest stretch of frames without a change."""
    begins = np.flatnonzero(np.any(np.diff(numbers, axis=0) != 0.0, axis=1)) + 1
    edges = [0, *begins.tolist(), len(numbers)]
    longest = int(np.argmax(np.diff(edges)))
    return slice(edges[longest], edges[longest + 1])


def _table(values: np.ndarray, probability: np.ndarray, here: float) -> dict[int, float]:
    """What is believed of a number that changes, at a frame where its path has it at `here`."""
    pairs = zip(values, probability, strict=True)
    return {int(n): float(p) for n, p in pairs if p > 1e-6 or n == here}


def _changes(k: int, values: np.ndarray, path: Path) -> list[Change]:
    found = []
    taken = values[path.best]
    for t in np.flatnonzero(np.diff(taken)) + 1:
        atoms = int(taken[t] - taken[t - 1])
        steps = np.subtract.outer(values, values).T  # after less before
        near = path.pairs[max(t - 2, 0) : t + 1]
        found.append(Change(k, int(t), atoms, min(float(near[:, steps == atoms].sum()), 1.0)))
    return found
