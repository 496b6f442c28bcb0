"""Windows that slide over an image, and what is seen in each.

The magnitude of a window's Fourier transform tells which periods are there, wherever the window
stands (Vasudevan et al., Appl. Phys. Lett. 106, 091601, 2015).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

PERIODS = 4.0
"""Of the lattice, the longest ones, in a window whose side is not given."""

A_PERIOD = 0.01
"""Of the power of the strongest frequency: weaker ones are no periods of the lattice."""

FEWEST_PERIODS = 2.0
"""Windows of fewer of them hardly tell one lattice from another."""

SMALLEST, LARGEST_SHARE = 16, 0.25
"""Sides of such windows: at least so many pixels, at most this share of the image."""

OVERLAP = 4
"""Windows follow each other by this part of their side."""

MOST = 4096
"""Windows of an image, about; on larger images they stand further apart."""

BAND = 0.999
"""Share of the windows' power (without their mean) that the kept frequencies hold."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Squares of `side` pixels on a grid; `rows`, `cols`: pixels of their centres."""

    side: int
    rows: Int[np.ndarray, " rows"]
    cols: Int[np.ndarray, " cols"]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the grid."""
        return len(self.rows), len(self.cols)

    @property
    def centres(self) -> Int[np.ndarray, "n 2"]:
        """(row, col), row by row."""
        return np.stack(np.meshgrid(self.rows, self.cols, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def step(self) -> float:
        """Pixels from one to the next, about."""
        return float(max(np.diff(self.rows).max(initial=0), np.diff(self.cols).max(initial=0)))


def windows_of(shape: tuple[int, int], side: int) -> Windows:
    """Windows that together cover an image of `shape`."""
    step = max(side / OVERLAP, np.sqrt(np.prod([n - side + 1.0 for n in shape]) / MOST))

    def centres(pixels: int) -> np.ndarray:
        count = 1 if pixels == side else max(2, int(np.ceil((pixels - side) / step)) + 1)
        return np.rint(np.linspace(side // 2, pixels - side + side // 2, count)).astype(int)

    return Windows(side, centres(shape[0]), centres(shape[1]))


def natural_side(image: Float[np.ndarray, "rows cols"]) -> int:
    """Side of windows that hold `PERIODS` of the image's longest one, an odd number, so that there
    is a pixel in the middle; at most `LARGEST_SHARE` of the image."""
    largest = max(SMALLEST, LARGEST_SHARE * min(image.shape))
    side = np.clip(PERIODS * longest_period(image), SMALLEST, largest)
    return 2 * (round(float(side)) // 2) + 1


def longest_period(image: Float[np.ndarray, "rows cols"]) -> float:
    """Of the lattice, in pixels, among those that fit into windows of `LARGEST_SHARE`."""
    power = np.abs(np.fft.rfft2(image - image.mean())) ** 2
    q = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    power[q <= 1.0 / (LARGEST_SHARE * min(image.shape))] = 0.0
    return 1.0 / float(q[power > A_PERIOD * power.max()].min(initial=1.0))


def standardised(image: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """With mean 0 and deviation 1; what is flat becomes 0."""
    deviation = image.std()
    return (image - image.mean()) / deviation if deviation > 1e-12 else np.zeros_like(image)


def patches(
    image: Float[np.ndarray, "rows cols"], centres: Int[np.ndarray, "n 2"], side: int
) -> Float[np.ndarray, "n side side"]:
    """Squares of an image around pixels that are far enough from its edges."""
    corners = centres - side // 2
    across = np.arange(side)
    rows, cols = corners[:, 0, None] + across, corners[:, 1, None] + across
    return image[rows[:, :, None], cols[:, None, :]]


def magnitudes(
    squares: Float[np.ndarray, "n side side"],
) -> Float[np.ndarray, "n kept kept"]:
    """Magnitudes of the windows' Fourier transforms, zero frequency in the middle, up to where the
    power ends; their mean is 1."""
    side = squares.shape[1]
    taper = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    flat = squares - squares.mean(axis=(1, 2), keepdims=True)
    found = np.fft.fft2(flat * np.outer(taper, taper))
    found = np.fft.fftshift(np.abs(found), axes=(1, 2))
    middle = side // 2
    away = np.abs(np.arange(side) - middle)
    ring = np.maximum(away[:, None], away)
    power = np.bincount(ring.ravel(), np.mean(found**2, axis=0).ravel())
    reach = int(np.searchsorted(np.cumsum(power), BAND * power.sum()))
    reach = min(max(reach, 3), (side - 1) // 2)
    kept = slice(middle - reach, middle + reach + 1)
    found = found[:, kept, kept]
    return found / max(float(found.mean()), 1e-300)
