"""Steps of the face where the crystal begins that cross a region: some of its columns begin deeper.

The cells into which an image is cut need not be those along which terraces end. With one height for
all of its columns, such a region has wrong numbers that make up for the step.
"""

import itertools

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.field.heights import Move
from qhrtem_jax.field.model import FieldModel
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
