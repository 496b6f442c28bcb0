"""Counts of a camera: pixels that say nothing, the vacuum, and what to divide by."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import median_filter, rank_filter, uniform_filter

from qhrtem_jax.errors import InputError

FAR = 8.0
"""Deviations from its neighbours, in standard deviations, that make a pixel bad."""

CLUSTER = 4
"""So many pixels beside each other may be bad together."""

BLOCK = 12
"""Pixels a side of the squares in which contrast is looked at."""

QUIET = 2.2
"""A square whose variance is less than so many times that of quiet ones may be vacuum."""

LIVELY = 4.0
"""Where crystal is, squares vary by more than so many times the quiet ones."""

LEAST_VACUUM = 20
"""Pixels a side of the smallest vacuum that tells level and noise."""


@dataclasses.dataclass(frozen=True)
class Vacuum:
    """Part of an image without lattice contrast: [row, col, rows, cols], and its mean."""

    region: tuple[int, int, int, int]
    level: float


MOST_BAD = 0.01
"""Share of pixels of an image that may be found bad."""


def bad_pixels(counts: Float[np.ndarray, "rows cols"]) -> Bool[np.ndarray, "rows cols"]:
    """Pixels that are no numbers, or far from their neighbours: hot, dead, struck by a cosmic ray.

    A microscope's image is smooth over a few pixels, noise grows as the root of the counts.
    """
    finite = np.isfinite(counts)
    filled = np.where(finite, counts, np.median(counts[finite]))
    around = median_filter(filled, size=5, mode="reflect")
    low, high = np.percentile(around, (1.0, 50.0))
    expected = np.sqrt(np.maximum(np.abs(around), max(abs(low), 1e-3 * abs(high), 1e-12)))
    off = (filled - around) / expected
    spread = 1.4826 * float(np.median(np.abs(off - np.median(off))))
    # a bright column has bright neighbours, what is wrong with a pixel or two has none
    near = np.ones((5, 5), dtype=bool)
    near[2, 2] = False
    above = rank_filter(filled, -CLUSTER, footprint=near, mode="reflect")
    below = rank_filter(filled, CLUSTER - 1, footprint=near, mode="reflect")
    excess = np.maximum(filled - above, below - filled) / expected
    return ~finite | (excess > FAR * max(spread, 1e-12))


def without_bad(
    counts: Float[np.ndarray, "rows cols"], bad: Bool[np.ndarray, "rows cols"]
) -> Float[np.ndarray, "rows cols"]:
    """Bad pixels as the median of the good ones around them."""
    found, unknown = np.where(bad, np.nan, counts), bad.copy()
    for _ in range(max(counts.shape)):
        if not unknown.any():
            break
        rows, cols = np.nonzero(unknown)
        for r, c in zip(rows, cols, strict=True):
            part = found[max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3]
            if np.any(np.isfinite(part)):
                found[r, c] = np.nanmedian(part)
        unknown = ~np.isfinite(found)
    return found


def local_moments(
    image: Float[np.ndarray, "rows cols"], size: int
) -> tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "rows cols"]]:
    """(mean, variance) of the square of `size` pixels around each pixel."""
    mean = uniform_filter(image, size, mode="reflect")
    variance = uniform_filter(image**2, size, mode="reflect") - mean**2
    return mean, np.maximum(variance, 0.0)


def find_vacuum(image: Float[np.ndarray, "rows cols"]) -> Vacuum | None:
    """The largest rectangle without lattice contrast; None where none is large enough to tell the
    level, or where nothing tells vacuum from crystal."""
    mean, variance = local_moments(image, BLOCK)
    inside = (slice(BLOCK // 2, -BLOCK // 2 or None),) * 2
    if min(image.shape) <= 2 * BLOCK:
        return None
    quietest = float(np.percentile(variance[inside], 3.0))
    quiet = float(np.median(variance[inside][variance[inside] < 2.5 * quietest]))
    if np.percentile(variance[inside], 80.0) < LIVELY * quiet:
        return None
    calm = variance < QUIET * quiet
    # fringes of the crystal's edge move the level where they do not move the variance
    level = float(np.median(mean[calm]))
    spread = 1.4826 * float(np.median(np.abs(mean[calm] - level)))
    calm &= np.abs(mean - level) < 3.0 * spread
    region = _largest_rectangle(_mostly(calm))
    if region is None or min(region[2:]) < LEAST_VACUUM:
        return None
    row, col, rows, cols = region
    return Vacuum(region, float(np.mean(image[row : row + rows, col : col + cols])))


@dataclasses.dataclass(frozen=True)
class Illumination:
    """A slope of the light: by which share of the vacuum's level, 1 in the middle of the vacuum, it
    grows per pixel along (rows, columns), with standard errors."""

    slope: tuple[float, float]
    std: tuple[float, float]
    middle: tuple[float, float]

    def over(self, shape: tuple[int, int]) -> Float[np.ndarray, "rows cols"]:
        """The light of an image of `shape`."""
        rows, cols = (np.arange(n) - at for n, at in zip(shape, self.middle, strict=True))
        return 1.0 + self.slope[0] * rows[:, None] + self.slope[1] * cols


def illumination(counts: Float[np.ndarray, "rows cols"], vacuum: Vacuum) -> Illumination:
    """The slope of the light in the vacuum; errors from what a plane leaves in squares of
    `BLOCK` pixels, as neighbouring pixels are not independent."""
    row, col, rows, cols = vacuum.region
    patch = counts[row : row + rows, col : col + cols]
    down, along = (max(n // BLOCK, 1) for n in patch.shape)
    high, wide = rows // down, cols // along
    means = patch[: high * down, : wide * along].reshape(down, high, along, wide).mean(axis=(1, 3))
    y = (np.arange(down) - 0.5 * (down - 1)) * high
    x = (np.arange(along) - 0.5 * (along - 1)) * wide
    share = means / means.mean() - 1.0
    squares = along * float(np.sum(y**2)), down * float(np.sum(x**2))
    sums = float(np.sum(share * y[:, None])), float(np.sum(share * x))
    slope = tuple(s / n if n > 0.0 else 0.0 for s, n in zip(sums, squares, strict=True))
    left = share - slope[0] * y[:, None] - slope[1] * x
    variance = float(np.sum(left**2)) / max(left.size - 3, 1)
    std = tuple(np.sqrt(variance / n) if n > 0.0 else np.inf for n in squares)
    middle = row + 0.5 * (high * down - 1), col + 0.5 * (wide * along - 1)
    return Illumination((float(slope[0]), float(slope[1])), (float(std[0]), float(std[1])), middle)


def contrast_of(patch: Float[np.ndarray, "rows cols"]) -> float:
    """How much more the liveliest squares of a patch vary than its quietest: about 2 for noise,
    many times that where a part of the patch shows a crystal."""
    if min(patch.shape) < 2 * BLOCK:
        return 1.0
    _, variance = local_moments(patch, BLOCK)
    inside = variance[BLOCK // 2 : -BLOCK // 2, BLOCK // 2 : -BLOCK // 2]
    low, high = np.percentile(inside, (10.0, 98.0))
    return float(high / max(low, 1e-30))


def normalised(
    counts: Float[np.ndarray, "rows cols"], level: float
) -> Float[np.ndarray, "rows cols"]:
    """Counts with the vacuum at 1.

    **Raises:** `InputError` for a level that is no intensity.
    """
    if not (np.isfinite(level) and level > 0.0):
        raise InputError(f"the level of the vacuum: found {level:.4g}, expected counts above 0")
    return counts / level


def _mostly(calm: np.ndarray) -> np.ndarray:
    """Squares of a few pixels nearly all of which are calm: noise makes some lively."""
    share = uniform_filter(calm.astype(float), BLOCK, mode="reflect")
    return share > 0.75


def _largest_rectangle(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """[row, col, rows, cols] of the largest rectangle of true pixels."""
    heights = np.zeros(mask.shape[1], dtype=int)
    best, found = 0, None
    for r, line in enumerate(mask):
        heights = np.where(line, heights + 1, 0)
        stack: list[tuple[int, int]] = []  # (first column, height), rising
        for c, height in enumerate([*heights.tolist(), 0]):
            first = c
            while stack and stack[-1][1] >= height:
                first, high = stack.pop()
                if high * (c - first) > best:
                    best, found = high * (c - first), (r - high + 1, first, high, c - first)
            if height:
                stack.append((first, height))
    return found
