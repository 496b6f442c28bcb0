"""Steps of the face where the crystal begins that cross a region: some of its columns begin deeper.

The cells into which an image is cut need not be those along which terraces end. With one height for
all of its columns, such a region has wrong numbers that make up for the step.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.field.effects import residuals_in
from qhrtem_jax.field.heights import Move, moved_within
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import residuals, snapped, with_room
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.columns import Columns

SAME_LINE = 1e-3
"""Columns are in line within this share of the cell."""


def ledges(columns: Columns) -> list[Move]:
    """The steps that are looked at: columns on one side of a line along an axis of the cell, or one
    alone, a repeating unit deeper or higher."""
    every, found = range(len(columns.xy)), {(k,) for k in range(len(columns.xy))}
    for along in columns.xy.T:
        ordered = np.sort(along)
        for low, high in itertools.pairwise(ordered):
            if high - low > SAME_LINE:
                side = along < 0.5 * (low + high)
                found |= {tuple(k for k in every if side[k] == this) for this in (True, False)}
    some = sorted(one for one in found if len(one) < len(columns.xy))
    return [Move(units, one) for one in some for units in (1, -1)]


def possible(
    model: FieldModel,
    numbers: Float[np.ndarray, " chains"],
    begins: Int[np.ndarray, " chains"],
    move: Move,
) -> bool:
    """Whether a region may move that then `begins` so: behind a step its numbers need room, and
    chains that are filled from the entrance; either part has to hold atoms."""
    if move.columns is None:
        return True
    if model.sites.fill != "entrance":
        return False
    part = np.isin([chain.column for chain in model.columns.chains], move.columns)
    if not (np.any(numbers[part] > 0) and np.any(numbers[~part] > 0)):
        return False
    return bool(model.constraints.allow(numbers, begins))


def simulated_moves(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    moves: Sequence[tuple[Int[np.ndarray, " _"], Move]],
) -> Iterator[Float[np.ndarray, "regions pixels"]]:
    """Whitened residuals of the field with some regions (which no region sees two of) moved, for
    each of some moves. All are simulated in one stack that has room for them, parts of regions from
    the way of the wave through the field as it is."""
    missed, roomy = residuals(model, state, journal), with_room(model, state)
    base = residuals(model, roomy, journal)
    points = snapped(model, roomy)
    moved = [moved_within(model, roomy, points, some.tolist(), move) for some, move in moves]
    parts = [move.columns is not None for _, move in moves]
    stacks = [there.stack for there, part in zip(moved, parts, strict=True) if part]
    of_parts = residuals_in(model, roomy, journal, stacks)
    for there, part in zip(moved, parts, strict=True):
        seen = next(of_parts) if part else residuals(model, there, journal)
        yield missed + (np.asarray(seen, float) - base)
