"""The cells of a lattice in an image, and the image on pixels that follow them."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import map_coordinates

from qhrtem_jax.micrograph.counts import local_moments

SPLINE = 5
"""Order of the splines between pixels: an image that the microscope has made smooth over several
pixels is met far below its noise."""

OVER_EDGE = 1.0
"""Pixels that the corner of a cell may lie beyond those of the image."""

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
    `seen`, which pixels the file shows: the others are taken from a like place in the nearest cell
    that it does."""

    image: Float[np.ndarray, "rows cols"]
    seen: Bool[np.ndarray, "rows cols"]
    first: tuple[int, int]


def on_cells(
    image: Float[np.ndarray, "rows cols"],
    cells: Cells,
    low: tuple[int, int],
    high: tuple[int, int],
) -> Resampled:
    """The image on the pixels of cells from `low` to before `high` = (i, j)."""
    rows, cols = ((h - n) * s for n, h, s in zip(low, high, cells.shape, strict=True))
    y, x = np.mgrid[:rows, :cols].astype(float)
    pixels = np.stack([x.ravel() + low[1] * cells.shape[1], y.ravel() + low[0] * cells.shape[0]], 1)
    places = cells.to_file(pixels)
    size = np.array(image.shape[::-1]) - 1.0
    seen = np.all((places >= 0.0) & (places <= size), axis=1)
    for _ in range(64):  # a step by whole cells towards the middle
        outside = ~np.all((places >= 0.0) & (places <= size), axis=1)
        if not outside.any():
            break
        towards = (0.5 * size - places[outside]) @ np.linalg.inv(cells.vectors)
        main = np.abs(towards) == np.abs(towards).max(axis=1, keepdims=True)
        places[outside] += (main * np.sign(towards)) @ cells.vectors
    values = map_coordinates(image, places.T[::-1], order=SPLINE, mode="nearest")
    return Resampled(values.reshape(rows, cols), seen.reshape(rows, cols), low)
