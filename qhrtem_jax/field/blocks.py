"""Blocks of regions, in which whole numbers are looked for together.

What the image says of numbers far from each other hardly hangs together, but for what all regions
share, which every block has at its best for the whole field. So the search opens the numbers of a
block and of a halo around it, and all others stay: the search grows with the field, not with its
square. Every number is told by the block in whose `core` it is. All else is refined over the whole
field.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Int

from qhrtem_jax.field.layout import FieldLayout

LARGEST = 25
"""A field of more regions is cut into blocks where nothing else is asked for."""

SIDE = 3
"""Regions along a side of these."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Regions (ascending): those that the block answers for, and those whose numbers are open."""

    core: Int[np.ndarray, " core"]
    opened: Int[np.ndarray, " opened"]


def blocks_of(cells: FieldLayout, size: str | tuple[int, int]) -> list[Block]:
    """The blocks of a field, of at most (rows, columns) regions and about as large as each other;
    `auto`: of `SIDE` times `SIDE`, or one where the field is small."""
    places = np.stack(np.unravel_index(cells.region_cells, cells.shape), axis=1)
    if isinstance(size, str):
        small = len(places) <= LARGEST
        size = cells.shape if small else (SIDE, SIDE)
    first, extent = places.min(axis=0), np.ptp(places, axis=0) + 1
    number = [math.ceil(n / most) for n, most in zip(extent, size, strict=True)]
    which = (places - first) * number // extent
    beside = touching(cells)
    blocks = []
    for at in np.unique(which, axis=0):
        core = np.flatnonzero(np.all(which == at, axis=1))
        halo = np.flatnonzero(beside[core].any(axis=0))
        blocks.append(Block(core, np.union1d(core, halo)))
    return blocks


def touching(cells: FieldLayout) -> Bool[np.ndarray, "regions regions"]:
    """Whether the atoms of one region reach into the pixels of the other."""
    return cells.near | cells.near.T
