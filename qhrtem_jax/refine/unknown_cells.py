"""Cells that no region shows, fitted by gradients of the whole field's chi-square.

What lies beyond the frame, or between the regions, reaches into their pixels. Its numbers of atoms
stay relaxed: they are there to explain cross-talk, not to be reported. Adam is used because it is
not stopped by the kinks that relaxed numbers have at whole ones: Gauss-Newton steps with conjugate
gradients are as fast at first, and stall (at a chi-square of 16763 where Adam reaches 16751).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from qhrtem_jax.matching.likelihood import Likelihood
from qhrtem_jax.physics.field import FieldSimulator, FieldState

COUNT_STD_CELLS = 2.0
SHIFT_STD_NM = 0.01
LEARNING_RATE = 0.15


class UnknownCells(eqx.Module):
    """Relaxed numbers and shifts of some cells, around what they were first taken to be."""

    numbers: Float[Array, "unknown chains"]  # change of the numbers of atoms
    shifts: Float[Array, "unknown columns 2"]  # in units of `SHIFT_STD_NM`


def numbers_std(per_cell: Int[np.ndarray, " chains"]) -> Float[np.ndarray, " chains"]:
    """Deviation of the prior of the numbers of atoms; `per_cell`, atoms of each chain in one
    cell."""
    return COUNT_STD_CELLS * per_cell


def deviations(
    unknown: UnknownCells, per_cell: Int[np.ndarray, " chains"]
) -> Float[np.ndarray, "unknown chains"]:
    """How far the numbers are from the first ones, in standard deviations of their prior."""
    return np.asarray(unknown.numbers, float) / numbers_std(per_cell)


def put(
    state: FieldState,
    cells: Int[Array, " unknown"],
    first: Float[Array, "unknown chains"],
    most: Float[Array, " chains"],
    unknown: UnknownCells,
) -> FieldState:
    """`state` with the unknown cells in it; `first` are their first numbers."""
    numbers = jnp.clip(first + unknown.numbers, 0.0, most)
    return eqx.tree_at(
        lambda s: (s.counts, s.shifts_nm),
        state,
        (
            state.counts.at[cells].set(numbers),
            state.shifts_nm.at[cells].set(unknown.shifts * SHIFT_STD_NM),
        ),
    )


def fit_unknown(
    field: FieldSimulator,
    likelihood: Likelihood,
    image: Float[Array, "field_rows field_cols"],
    state: FieldState,
    cells: Int[np.ndarray, " unknown"],
    first: Float[Array, "unknown chains"],
    most: Num[np.ndarray, " chains"],
    per_cell: Int[np.ndarray, " chains"],
    unknown: UnknownCells,
    steps: int,
) -> UnknownCells:
    """The best of `steps` steps of Adam on the whitened chi-square of the field with priors, or
    `unknown` where none is better.

    `likelihood`, of the whole image; `per_cell`, atoms of each chain in one cell.
    """
    optimizer = optax.adam(LEARNING_RATE)
    memory = optimizer.init(unknown)  # pyright: ignore[reportArgumentType]
    limits = jnp.asarray(most, image.dtype)
    std = jnp.asarray(numbers_std(per_cell), image.dtype)
    best = (jnp.asarray(jnp.inf, image.dtype), unknown)
    for _ in range(steps + 1):  # the first looks at the start
        unknown, memory, best = _step(
            field,
            likelihood,
            image,
            state,
            jnp.asarray(cells),
            first,
            limits,
            std,
            unknown,
            memory,
            best,
        )
    return best[1]


@eqx.filter_jit
def _step(
    field: FieldSimulator,
    likelihood: Likelihood,
    image: Array,
    state: FieldState,
    cells: Array,
    first: Array,
    most: Array,
    std: Array,
    unknown: UnknownCells,
    memory: optax.OptState,
    best: tuple[Array, UnknownCells],
) -> tuple[UnknownCells, optax.OptState, tuple[Array, UnknownCells]]:
    def objective(trial: UnknownCells) -> Array:
        found = field.image(put(state, cells, first, most, trial))
        priors = jnp.sum((trial.numbers / std) ** 2) + jnp.sum(trial.shifts**2)
        return (likelihood.objective(found, image) + priors) / image.size

    value, gradient = jax.value_and_grad(objective)(unknown)
    better = value < best[0]
    chosen = jax.tree.map(lambda new, old: jnp.where(better, new, old), unknown, best[1])
    updates, memory = optax.adam(LEARNING_RATE).update(gradient, memory)
    moved = jax.tree.map(lambda value, step: value + step, unknown, updates)
    return moved, memory, (jnp.minimum(value, best[0]), chosen)
