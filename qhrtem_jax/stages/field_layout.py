"""Cells of the supercell that a field is simulated in: known, unknown, vacuum."""

import dataclasses
import math

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.stages.lattice import cell_of
from qhrtem_jax.stages.reconstruct import ReconstructProblem
from qhrtem_jax.stages.regions import LEAST_CONTRAST

MARGIN_NM = 0.8
"""Width of the cells beyond the frame, which separate its opposite edges."""

REACH_NM = 0.35
"""So far the atoms of a cell are seen in the pixels around it."""


@dataclasses.dataclass(frozen=True)
class FieldLayout:
    """`shape` (rows, cols) of the supercell; the index of each region's cell; and of the cells with
    crystal that no region shows, each with the region that it is first taken to be like."""

    shape: tuple[int, int]
    region_cells: np.ndarray  # (regions,)
    unknown_cells: np.ndarray
    nearest_region: np.ndarray  # (unknown,)
    reach: tuple[int, int]  # rows and columns of cells that a cell's atoms reach around it

    def near(self) -> np.ndarray:
        """Which regions (regions, regions) see the atoms of which."""
        return np.all(self._distances() <= self.reach, axis=2)

    def apart(self) -> list[list[int]]:
        """The regions in groups, in which no two are seen by the same third one."""
        overlap = np.all(self._distances() <= 2 * np.array(self.reach), axis=2)
        groups: list[list[int]] = []
        for k in range(len(overlap)):
            group = next((g for g in groups if not overlap[k, g].any()), None)
            if group is None:
                groups.append([k])
            else:
                group.append(k)
        return groups

    def _distances(self) -> np.ndarray:
        """In rows and columns of cells (regions, regions, 2)."""
        places = np.stack(np.divmod(self.region_cells, self.shape[1]), axis=1)
        return np.abs(places[:, None] - places[None])


def field_layout(task: ReconstructProblem) -> FieldLayout:
    """Lay the lattice over the field.

    Cells of the frame without a region are vacuum where the image shows no contrast; cells beyond
    the frame are like the nearest one of the frame.
    """
    image, frame = task.field.image, task.field.frame
    size = np.array(task.specimen.columns.size_nm[:2][::-1])
    extent = np.array(image.shape) * np.array(frame.sampling_nm)
    visible = np.ceil(extent / size - 0.1).astype(int)
    margin = [max(2, math.ceil(MARGIN_NM / s)) for s in size]
    shape = (int(visible[0] + margin[0]), int(visible[1] + margin[1]))
    places = np.array([cell_of(r.origin, task.specimen, frame) for r in task.regions])
    region_of: dict[tuple[int, ...], int] = {}
    for k, place in enumerate(places):
        other = region_of.setdefault(tuple(int(n) for n in place), k)
        if other != k:
            raise InputError(
                f"data.rois: {task.regions[other].name} at {list(task.regions[other].origin)} and "
                f"{task.regions[k].name} at {list(task.regions[k].origin)} show the same cell of "
                "the lattice, expected each cell once"
            )
    pixels = size / np.array(frame.sampling_nm)
    strongest = max(float(np.std(r.image)) for r in task.regions)

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
    return FieldLayout(
        shape,
        np.array([p[0] * shape[1] + p[1] for p in places], dtype=int),
        np.array(unknown, dtype=int),
        np.array(nearest, dtype=int),
        (math.ceil(REACH_NM / size[0]), math.ceil(REACH_NM / size[1])),
    )
