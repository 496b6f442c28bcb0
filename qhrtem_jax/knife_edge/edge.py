"""Where the straight edge of an image lies."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, median_filter

from qhrtem_jax.errors import InputError

SMOOTHING_PX = 1.5
"""Of the image in which the edge is looked for, against noise."""

LEAST_ROWS = 32
"""Rows that the edge has to cross."""

STRAIGHT_PX = 1.0
"""Largest scatter (rms) of the rows' edges about a line; noise gives a tenth of it."""

BEND_PX = 6.0
"""Pixels this near to the edge say how it is inclined."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """The line x = `start` + `slope` (y - `centre`) in pixels, between two levels.

    In an image that was turned (`turned`: rows and columns exchanged) so that its columns differ
    more than its rows. `rows`: first and last (excluded) that the line crosses.
    """

    start: float
    slope: float
    centre: float
    rows: tuple[int, int]
    dark: float
    bright: float
    turned: bool

    @property
    def angle_deg(self) -> float:
        """Inclination against the columns of the image (or, `turned`, against its rows)."""
        return float(np.degrees(np.arctan(self.slope)))

    def distance(self, shape: tuple[int, int]) -> Float[np.ndarray, "rows cols"]:
        """Distance of every pixel of the (turned) image from the line, in pixels."""
        y, x = np.arange(shape[0])[:, None], np.arange(shape[1])
        return (x - self.start - self.slope * (y - self.centre)) / np.hypot(1.0, self.slope)


def turned(image: Float[np.ndarray, "rows cols"], edge: Edge) -> Float[np.ndarray, "y x"]:
    """The lines of an image that its edge crosses, as the edge is described in."""
    upright = image.T if edge.turned else image
    return upright[edge.rows[0] : edge.rows[1]]


def find_edge(image: Float[np.ndarray, "rows cols"]) -> Edge:
    """The one straight edge of an image.

    **Raises:** `InputError` where there is none, or more than one.
    """
    calm = median_filter(image, 3)  # without hot pixels
    smooth = gaussian_filter(calm, SMOOTHING_PX)
    across, along = (float(np.ptp(smooth.mean(axis=axis))) for axis in (0, 1))
    turn = along > across
    smooth = smooth.T if turn else smooth
    dark, bright = _levels(smooth)
    above = smooth > 0.5 * (dark + bright)
    changes = np.count_nonzero(above[:, 1:] != above[:, :-1], axis=1)
    crossed = np.flatnonzero(changes == 1)
    if crossed.size < LEAST_ROWS or np.count_nonzero(changes > 1) > 0.1 * changes.size:
        raise InputError(
            f"found no single edge between a dark and a bright side ({crossed.size} of "
            f"{changes.size} lines cross one, {np.count_nonzero(changes > 1)} more than one), "
            f"expected one that crosses at least {LEAST_ROWS} lines: cut out one that does"
        )
    start, slope, centre = _line(crossed, _crossings(smooth[crossed], 0.5 * (dark + bright)))
    rows = int(crossed[0]), int(crossed[-1]) + 1
    edge = Edge(start, slope, centre - rows[0], rows, dark, bright, turn)
    return _inclined(turned(calm, edge), edge)


def _levels(smooth: np.ndarray) -> tuple[float, float]:
    """(dark, bright): medians of the two sides of a threshold half-way between their means."""
    threshold = float(smooth.mean())
    for _ in range(20):
        low, high = smooth[smooth <= threshold], smooth[smooth > threshold]
        if not low.size or not high.size:
            raise InputError(
                f"found one level ({threshold:g}), expected a dark and a bright side of an edge"
            )
        threshold = 0.5 * float(low.mean() + high.mean())
    return float(np.median(low)), float(np.median(high))


def _crossings(rows: np.ndarray, level: float) -> np.ndarray:
    """Where each row passes the level, interpolated."""
    above = rows > level
    first = np.argmax(above[:, 1:] != above[:, :-1], axis=1)
    left, right = (rows[np.arange(len(rows)), first + k] for k in (0, 1))
    return first + (level - left) / (right - left)


def _line(y: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """(start, slope, centre) of a line through most of the points."""
    kept = np.ones(y.size, dtype=bool)
    centre = float(y.mean())
    for _ in range(5):
        slope, start = np.polyfit(y[kept] - centre, x[kept], 1)
        missed = x - start - slope * (y - centre)
        scatter = float(np.median(np.abs(missed[kept]))) / 0.6745
        kept = np.abs(missed) <= 4.0 * scatter + 1e-9
    rms = float(np.sqrt(np.mean(missed**2)))
    if rms > STRAIGHT_PX:
        raise InputError(
            f"found an edge that scatters by {rms:.1f} pixels (rms) about a straight line, "
            f"expected at most {STRAIGHT_PX:g}: cut out a straight part"
        )
    return float(start), float(slope), centre


def _inclined(image: np.ndarray, edge: Edge) -> Edge:
    """The edge with the slope that pixels near it fit best, by two Gauss-Newton steps.

    The profile across the edge is the mean over all rows, so only the slope is left to fit.
    """
    step = 0.25
    image = (image - edge.dark) / (edge.bright - edge.dark)
    y = np.arange(image.shape[0])[:, None] - edge.centre + np.zeros(image.shape)
    for _ in range(2):
        distance = edge.distance(image.shape)
        near = np.abs(distance) < BEND_PX
        bins = np.floor((distance[near] + BEND_PX) / step).astype(int)
        count = np.bincount(bins)
        profile = np.bincount(bins, image[near]) / np.maximum(count, 1)
        rise = np.gradient(profile, step)
        missed = image[near] - profile[bins]
        lever = -rise[bins] * y[near] / np.hypot(1.0, edge.slope)
        change = float(np.sum(missed * lever) / np.sum(lever**2))
        edge = dataclasses.replace(edge, slope=edge.slope + change)
    return edge
