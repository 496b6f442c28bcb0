"""The cells of a lattice in an image, and the image on pixels that follow them."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_dilation, map_coordinates

from qhrtem_jax.micrograph.counts import local_moments

SPLINE = 5
"""Order of the splines between pixels: an image that the microscope has made smooth over several
pixels is met far below its noise."""

OVER_EDGE = 1.0
"""Pixels that the corner of a cell may lie beyond those of the image."""

NEAR_CELLS = 8
"""So many cells away, at most, what an image does not show is taken from."""

CRYSTAL_SHARE = 0.9
"""So much of a whole cell shows crystal."""

LEAST_CRYSTAL = 0.15
"""Where the local variance is more than this share of that of the liveliest parts, crystal is."""


def crystal_of(
    image: Float[np.ndarray, "rows cols"], window_px: float, noise_variance: float
) -> Bool[np.ndarray, "rows cols"]:
    """Where an image shows lattice contrast, looked at in squares of about a cell."""
    _, variance = local_moments(image, max(4, round(window_px)))
    return variance > max(LEAST_CRYSTAL * float(np.percentile(variance, 90.0)), 2 * noise_variance)


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells of a lattice: `origin` (x, y) of cell (0, 0) and `vectors` a, b (rows) in pixels of the
    file; cell (i, j) is i cells along b and j along a. `shape`: (rows, cols) of pixels that one
    cell is drawn on where the image follows the lattice."""

    origin: Float[np.ndarray, " 2"]
    vectors: Float[np.ndarray, "2 2"]
    shape: tuple[int, int]

    def corners(self, cell: tuple[int, int]) -> Float[np.ndarray, "4 2"]:
        """(x, y) in the file of origin, +a, +a+b, +b."""
        a, b = self.vectors
        first = self.origin + cell[0] * b + cell[1] * a
        return np.array([first, first + a, first + a + b, first + b])

    def to_file(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """(x, y) in the file of (x, y) on the cells' pixels, whose first lies on the origin."""
        return self.origin + (pixels / np.array(self.shape[::-1])) @ self.vectors


def cells_of(vectors: Float[np.ndarray, "2 2"], origin: Float[np.ndarray, " 2"]) -> Cells:
    """Cells that are drawn on about as many pixels as they have in the file."""
    a, b = np.linalg.norm(vectors, axis=1)
    return Cells(origin, vectors, (round(float(b)), round(float(a))))


def whole_cells(cells: Cells, where: Bool[np.ndarray, "rows cols"]) -> Int[np.ndarray, "n 2"]:
    """(i, j) of the cells that lie within the image and show crystal, row by row."""
    rows, cols = where.shape
    reach = int(np.ceil((rows + cols) / np.linalg.norm(cells.vectors, axis=1).min())) + 1
    found = []
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            corners = cells.corners((i, j))
            x, y = corners.T
            inside = min(x.min(), y.min(), cols - 1 - x.max(), rows - 1 - y.max())
            if inside < -OVER_EDGE:
                continue
            share = np.linspace(0.1, 0.9, 9)
            u, v = np.meshgrid(share, share)
            inner = corners[0] + np.stack([u.ravel(), v.ravel()], axis=1) @ cells.vectors
            column, row = np.clip(np.rint(inner).astype(int), 0, [cols - 1, rows - 1]).T
            if np.mean(where[row, column]) >= CRYSTAL_SHARE:
                found.append((i, j))
    return np.array(found, dtype=int).reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class Resampled:
    """An image on the pixels of cells: `first`, (i, j) of the cell at its upper left corner;
    `seen`, which pixels the file shows, no bad one among those they are made of: the others are
    taken from a like place in a near cell."""

    image: Float[np.ndarray, "rows cols"]
    seen: Bool[np.ndarray, "rows cols"]
    first: tuple[int, int]


def on_cells(
    image: Float[np.ndarray, "rows cols"],
    cells: Cells,
    low: tuple[int, int],
    high: tuple[int, int],
    bad: Bool[np.ndarray, "rows cols"] | None = None,
) -> Resampled:
    """The image on the pixels of cells from `low` to before `high` = (i, j); `bad`: pixels of the
    image that mean nothing."""
    rows, cols = ((h - n) * s for n, h, s in zip(low, high, cells.shape, strict=True))
    y, x = np.mgrid[:rows, :cols].astype(float)
    pixels = np.stack([x.ravel() + low[1] * cells.shape[1], y.ravel() + low[0] * cells.shape[0]], 1)
    places = cells.to_file(pixels)
    spoilt = np.zeros(image.shape, dtype=bool) if bad is None else _reached(bad)
    seen = _good(places, spoilt)
    middle, missing = 0.5 * (np.array(image.shape[::-1]) - 1.0), np.flatnonzero(~seen)
    for i, j in _by_distance(NEAR_CELLS):
        if not missing.size:
            break
        # the same place in another cell, the nearest first, towards the middle where equally near
        away = (middle - places[missing]) @ np.linalg.inv(cells.vectors)
        signs = np.where(away < 0.0, -1.0, 1.0)
        there = places[missing] + (signs * np.array([j, i])) @ cells.vectors
        found = _good(there, spoilt)
        places[missing[found]] = there[found]
        missing = missing[~found]
    places = np.clip(places, 0.0, np.array(image.shape[::-1]) - 1.0)
    values = map_coordinates(image, places.T[::-1], order=SPLINE, mode="nearest")
    return Resampled(values.reshape(rows, cols), seen.reshape(rows, cols), low)


def _reached(bad: Bool[np.ndarray, "rows cols"]) -> Bool[np.ndarray, "rows cols"]:
    """Pixels beside bad ones, which splines mix with them."""
    return binary_dilation(bad, np.ones((3, 3), dtype=bool))


def _good(
    places: Float[np.ndarray, "n 2"], spoilt: Bool[np.ndarray, "rows cols"]
) -> Bool[np.ndarray, " n"]:
    """Whether places (x, y) lie within an image, on no spoilt pixel."""
    size = np.array(spoilt.shape[::-1]) - 1.0
    inside = np.all((places >= 0.0) & (places <= size), axis=1)
    column, row = np.clip(np.rint(places), 0, size).astype(int).T
    return inside & ~spoilt[row, column]


def _by_distance(most: int) -> list[tuple[int, int]]:
    """Steps by whole cells (along b, along a), the shortest first."""
    steps = [(i, j) for i in range(-most, most + 1) for j in range(-most, most + 1)]
    return sorted(steps, key=lambda step: (step[0] ** 2 + step[1] ** 2, -step[0] - step[1]))
