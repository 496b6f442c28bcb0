"""From the spread of an edge to the modulation transfer function (the slanted edge of ISO 12233).

The pixels of an edge that is inclined against them sample its spread far more densely than one row
does; its derivative is the line spread, whose Fourier transform is the MTF along the normal.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from qhrtem_jax.errors import InputError
from qhrtem_jax.knife_edge.edge import Edge, turned

FREQUENCIES = 129
"""From 0 to Nyquist."""

OVERSAMPLING = (8, 4)
"""Bins a pixel; the fewer serve an edge whose slope is nearly a simple fraction."""

LEAST_REACH_PX = 8.0

BLOCKS = 8
"""Parts of the edge; each is left out in turn to see how far the MTF depends on it (jackknife)."""

HALO_PX = (6.0, 10.0)
"""From the first to the second distance on, an edge spread is taken as smooth: a camera's halo has
no fine structure, and the noise there would add to that of all frequencies."""

HALO_SMOOTHING_PX = 2.0

SYSTEMATIC = 0.002
"""Error of the MTF that smoothing the halo leaves (halos of 2 pixels rms)."""

TAPER = 0.2
"""Outer part of the reach over which the line spread is let fall to zero."""


@dataclasses.dataclass(frozen=True)
class Transfer:
    """MTF at `frequency` (1/pixel), its standard error, and the spreads that it comes from.

    `pixel`: what the square of a pixel leaves of each frequency, which `value` contains.
    """

    frequency: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]
    pixel: Float[np.ndarray, " n"]
    distance_px: Float[np.ndarray, " bins"]
    edge_spread: Float[np.ndarray, " bins"]
    line_distance_px: Float[np.ndarray, " steps"]
    line_spread: Float[np.ndarray, " steps"]


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Pixels of an edge in bins of equal distance: how many, and their sum, in each block."""

    count: Float[np.ndarray, "blocks bins"]
    total: Float[np.ndarray, "blocks bins"]
    per_pixel: int

    @property
    def reach(self) -> float:
        return self.count.shape[1] / (2.0 * self.per_pixel)

    def profile(self, without: int | None = None) -> Float[np.ndarray, " bins"]:
        """Mean of each bin, smoothed in the halo; `without`: a block that is left out."""
        kept = [k for k in range(BLOCKS) if k != without]
        mean = self.total[kept].sum(axis=0) / self.count[kept].sum(axis=0)
        smooth = gaussian_filter1d(mean, HALO_SMOOTHING_PX * self.per_pixel)
        share = np.clip((np.abs(self.places) - HALO_PX[0]) / (HALO_PX[1] - HALO_PX[0]), 0.0, 1.0)
        return mean + share * (smooth - mean)

    @property
    def places(self) -> Float[np.ndarray, " bins"]:
        """Distance of the bins' middles from the edge, in pixels."""
        return (np.arange(self.count.shape[1]) + 0.5) / self.per_pixel - self.reach


def measure(image: Float[np.ndarray, "rows cols"], edge: Edge, reach_px: float) -> Transfer:
    """The MTF of an edge, from pixels up to `reach_px` away from it.

    **Raises:** `InputError` where the edge is not inclined enough against the pixels.
    """
    sums = _binned(turned(image, edge), edge, reach_px)
    frequency = np.linspace(0.0, 0.5, FREQUENCIES)
    value = _transform(sums.profile(), sums.per_pixel, frequency)
    parts = np.array(
        [_transform(sums.profile(k), sums.per_pixel, frequency) for k in range(BLOCKS)]
    )
    scatter = (BLOCKS - 1) / BLOCKS * np.sum((parts - parts.mean(axis=0)) ** 2, axis=0)
    variance = scatter + np.where(frequency > 0.0, SYSTEMATIC, 0.0) ** 2
    normal = np.array([1.0, edge.slope]) / np.hypot(1.0, edge.slope)
    spread, line = sums.profile(), _line_spread(sums.profile(), sums.per_pixel)
    middle = sums.places
    return Transfer(
        frequency,
        value,
        np.sqrt(variance),
        np.sinc(frequency * normal[0]) * np.sinc(frequency * normal[1]),
        middle,
        spread,
        0.5 * (middle[1:] + middle[:-1]),
        line,
    )


def _binned(image: np.ndarray, edge: Edge, reach_px: float) -> _Sums:
    distance = edge.distance(image.shape)
    rows = np.arange(image.shape[0])[:, None]
    block = np.broadcast_to(rows * BLOCKS // image.shape[0], image.shape)
    best: _Sums | None = None
    for per_pixel in OVERSAMPLING:
        half = int(reach_px * per_pixel)
        bins = np.floor(distance * per_pixel).astype(int) + half
        inside = (bins >= 0) & (bins < 2 * half)
        index = block[inside] * (2 * half) + bins[inside]
        count, total = (
            np.bincount(index, weights, BLOCKS * 2 * half).reshape(BLOCKS, -1).astype(float)
            for weights in (None, image[inside])
        )
        # every bin must be seen whichever block is left out
        empty = np.flatnonzero((count.sum(axis=0) - count).min(axis=0) == 0)
        nearest = int(np.min(np.where(empty < half, half - 1 - empty, empty - half), initial=half))
        kept = slice(half - nearest, half + nearest)
        sums = _Sums(count[:, kept], total[:, kept], per_pixel)
        if best is None or sums.reach > 2.0 * best.reach:
            best = sums
    assert best is not None
    if best.reach < LEAST_REACH_PX:
        raise InputError(
            f"found an edge at {edge.angle_deg:.2f} degrees to the pixels that samples its spread "
            f"up to {best.reach:.1f} pixels only, expected {LEAST_REACH_PX:g}: incline it by some "
            "degrees against rows, columns and diagonals, or take more of it"
        )
    return best


def _line_spread(profile: np.ndarray, per_pixel: int) -> np.ndarray:
    """Derivative of an edge spread, tapered at its ends, of area 1."""
    line = np.diff(profile) * per_pixel
    place = np.abs(np.linspace(-1.0, 1.0, line.size))
    outer = np.clip((place - (1.0 - TAPER)) / TAPER, 0.0, 1.0)
    line = line * 0.5 * (1.0 + np.cos(np.pi * outer))
    return line / (line.sum() / per_pixel)


def _transform(profile: np.ndarray, per_pixel: int, frequency: np.ndarray) -> np.ndarray:
    """MTF of an edge spread: the real part of its line spread's transform about its centre (the
    magnitude would count noise)."""
    line = _line_spread(profile, per_pixel) / per_pixel
    place = (np.arange(line.size) - 0.5 * (line.size - 1)) / per_pixel
    near = np.abs(place) < 4.0
    centre = float(np.sum(line[near] * place[near]) / np.sum(line[near]))
    for _ in range(3):
        waves = np.exp(-2j * np.pi * frequency[:, None] * (place - centre)) @ line
        weight = np.abs(waves) ** 2 * (frequency < 0.25)
        slope = np.sum(weight * frequency * np.angle(waves)) / np.sum(weight * frequency**2)
        centre -= float(slope / (2.0 * np.pi))
    # bins average over their width, and differences of them are no derivative
    return np.real(waves) / np.sinc(frequency / per_pixel) ** 2
