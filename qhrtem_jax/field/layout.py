"""Cells of the supercell that a field is simulated in: known, unknown, vacuum."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.image import Experiment
from qhrtem_jax.inputs.lattice import cell_of
from qhrtem_jax.inputs.rois import LEAST_CONTRAST, Region
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Columns

MARGIN_NM = 0.8
"""Width of the cells beyond the frame, which separate its opposite edges."""

REACH_NM = 0.35
"""Distance from its cell at which a change of atoms is taken to leave no trace in the image, as it
does for a few nm of defocus; where this matters, what is left beyond it is looked at."""


@dataclasses.dataclass(frozen=True)
class FieldLayout:
    """`shape` (rows, cols) of the supercell; the index of each region's cell; and of the cells with
    crystal that no region shows, each with the region that it is first taken to be like.

    `near`: whose pixels (first index) see the atoms of whose cell; `near_unknown`: of which of the
    unknown cells.
    """

    shape: tuple[int, int]
    region_cells: Int[np.ndarray, " regions"]
    unknown_cells: Int[np.ndarray, " unknown"]
    nearest_region: Int[np.ndarray, " unknown"]
    near: Bool[np.ndarray, "regions regions"]
    near_unknown: Bool[np.ndarray, "regions unknown"]

    @property
    def reach(self) -> Bool[np.ndarray, "regions regions"]:
        """Whose pixels (first index) see the atoms of whom, or those of unknown cells that stand as
        high: a region that moves along the beam takes these with it."""
        like = self.nearest_region[:, None] == np.arange(len(self.near))
        return self.near | ((self.near_unknown.astype(int) @ like) > 0)


def apart(
    near: Bool[np.ndarray, "regions cells"], some: Int[np.ndarray, " some"] | None = None
) -> list[list[int]]:
    """All or `some` cells in groups, the first ones first, in which no two are seen by the same
    region; those that none sees are left out. `near`: whose pixels see the atoms of which cell."""
    groups: list[list[int]] = []
    every = np.arange(near.shape[1]) if some is None else some
    for k in every[near[:, every].any(axis=0)]:
        seen = near[:, k]
        group = next((g for g in groups if not near[seen][:, g].any()), None)
        if group is None:
            groups.append([int(k)])
        else:
            group.append(int(k))
    return groups


def pixels_beside(
    layout: FieldLayout, frame: Frame, columns: Columns
) -> Bool[np.ndarray, "unknown rows cols"]:
    """Whether each pixel of the frame lies within `REACH_NM` of each unknown cell."""
    places = np.stack(np.unravel_index(layout.unknown_cells, layout.shape), axis=1)
    pixels = [np.arange(n) * step for n, step in zip(frame.shape, frame.sampling_nm, strict=True)]
    sizes = columns.size_nm[1], columns.size_nm[0]
    down, along = (
        _within_reach(at, at, of, size, period)
        for at, of, size, period in zip(pixels, places.T, sizes, layout.shape, strict=True)
    )
    return (down[:, None] & along[None]).transpose(2, 0, 1)


def field_layout(field: Experiment, regions: Sequence[Region], columns: Columns) -> FieldLayout:
    """Lay the lattice over the field.

    Cells of the frame without a region are vacuum where the image shows no contrast; cells beyond
    the frame are like the nearest one of the frame.
    """
    image, frame = field.image, field.frame
    size = np.array(columns.size_nm[:2][::-1])
    extent = np.array(image.shape) * np.array(frame.sampling_nm)
    visible = np.ceil(extent / size - 0.1).astype(int)
    margin = [max(2, math.ceil(MARGIN_NM / s)) for s in size]
    shape = (int(visible[0] + margin[0]), int(visible[1] + margin[1]))
    places = np.array([cell_of(r.origin, columns, frame) for r in regions])
    region_of: dict[tuple[int, ...], int] = {}
    for k, place in enumerate(places):
        other = region_of.setdefault(tuple(int(n) for n in place), k)
        if other != k:
            raise InputError(
                f"{regions[other].name} at {list(regions[other].origin)} and "
                f"{regions[k].name} at {list(regions[k].origin)} show the same cell of "
                "the lattice, expected each cell once"
            )
    pixels = size / np.array(frame.sampling_nm)
    strongest = max(float(np.std(r.image)) for r in regions)

    def is_crystal(i: int, j: int) -> bool:
        if (i, j) in region_of:
            return True
        low = np.rint(np.array([i, j]) * pixels).astype(int)
        high = np.minimum(np.rint(np.array([i + 1, j + 1]) * pixels), image.shape).astype(int)
        part = image[low[0] : high[0], low[1] : high[1]]
        return part.size > 16 and float(np.std(part)) > LEAST_CONTRAST * strongest

    unknown, nearest = [], []
    for i in range(shape[0]):
        for j in range(shape[1]):
            # beyond the frame, half of the margin belongs to either edge (the field is periodic)
            row, col = (
                n if n < v else (v - 1 if n - v < (m + 1) // 2 else 0)
                for n, v, m in zip((i, j), visible, margin, strict=True)
            )
            if (i, j) in region_of or not is_crystal(int(row), int(col)):
                continue
            distance = np.hypot(*((places - [row, col]) * size).T)
            unknown.append(i * shape[1] + j)
            nearest.append(int(np.argmin(distance)))
    beyond = np.stack(np.unravel_index(np.array(unknown, dtype=int), shape), axis=1)
    return FieldLayout(
        shape,
        np.array([p[0] * shape[1] + p[1] for p in places], dtype=int),
        np.array(unknown, dtype=int),
        np.array(nearest, dtype=int),
        _near(frame, regions, places, size, shape),
        _near(frame, regions, beyond, size, shape),
    )


def _near(
    frame: Frame,
    regions: Sequence[Region],
    places: Int[np.ndarray, "cells 2"],
    size: Float[np.ndarray, " 2"],
    shape: tuple[int, int],
) -> Bool[np.ndarray, "regions cells"]:
    """Whether the pixels of each region lie within `REACH_NM` of each cell, at (row, col) of a
    periodic supercell of `shape` cells of `size` nm. The pixels of a region need not cover its
    cell."""
    sampling = np.array(frame.sampling_nm)
    first = np.array([r.origin for r in regions]) * sampling
    last = first + np.array(regions[0].image.shape) * sampling
    down, along = (
        _within_reach(first[:, axis], last[:, axis], places[:, axis], size[axis], shape[axis])
        for axis in (0, 1)
    )
    return down & along


def _within_reach(
    first: np.ndarray, last: np.ndarray, places: np.ndarray, size: float, period: int
) -> np.ndarray:
    """Whether what extends from `first` to `last` (n,) along an axis, in nm, lies within `REACH_NM`
    of cells (m,) at `places` of `size` nm each, which repeat after `period` cells: (n, m)."""
    low = (places + period * np.array([-1, 0, 1])[:, None]) * size
    gap = np.maximum(low - last[:, None, None], first[:, None, None] - (low + size))
    return np.any(gap < REACH_NM, axis=1)
