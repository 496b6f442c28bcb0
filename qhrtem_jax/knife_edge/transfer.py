"""From the spread of an edge to the modulation transfer function (the slanted edge of ISO 12233).

The pixels of an edge that is inclined against them sample its spread far more densely than one row
does; its derivative is the line spread, whose Fourier transform is the MTF along the normal.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from qhrtem_jax.errors import InputError
from qhrtem_jax.knife_edge.edge import Edge, turned

FREQUENCIES = 129
"""From 0 to Nyquist."""

OVERSAMPLING = (8, 4, 3)
"""Bins a pixel; the fewer serve an edge whose slope is nearly a simple fraction."""

LEAST_REACH_PX = 8.0

BLOCKS = 8
"""Parts of the edge; each is left out in turn to see how far the MTF depends on it (jackknife)."""

CENTRINGS = 3
"""So often the pixels of a bin are moved to its middle, along the spread found before."""

OUTLIER = 7.0
"""A pixel that is so many standard deviations off the spread of the edge is put onto it."""

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

    `pixel`: what the square of a pixel leaves of each frequency, which `value` contains. `left`,
    with its standard error: what the edge spread would change over the reach at the pace of its
    outer parts, as a share of its height. `outliers`: pixels that were put onto the spread.
    """

    frequency: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]
    pixel: Float[np.ndarray, " n"]
    distance_px: Float[np.ndarray, " bins"]
    edge_spread: Float[np.ndarray, " bins"]
    line_distance_px: Float[np.ndarray, " steps"]
    line_spread: Float[np.ndarray, " steps"]
    left: tuple[float, float]
    outliers: int

    @property
    def reach_px(self) -> float:
        """Up to which distance from the edge its spread is known."""
        return 0.5 * float(self.distance_px[1] - self.distance_px[0]) - float(self.distance_px[0])


@dataclasses.dataclass(frozen=True)
class _Pixels:
    """The pixels near an edge: distance from it, value, bin, and part of the edge."""

    distance: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    bins: Int[np.ndarray, " n"]
    block: Int[np.ndarray, " n"]
    per_pixel: int
    reach: float

    @property
    def places(self) -> Float[np.ndarray, " bins"]:
        """Distance of the bins' middles from the edge, in pixels."""
        count = round(2 * self.reach * self.per_pixel)
        return (np.arange(count) + 0.5) / self.per_pixel - self.reach

    def kept(self, which: Bool[np.ndarray, " n"]) -> "_Pixels":
        """Some of them."""
        return dataclasses.replace(
            self,
            distance=self.distance[which],
            value=self.value[which],
            bins=self.bins[which],
            block=self.block[which],
        )

    def spread(self) -> CubicSpline:
        """The edge's spread. A bin's pixels need not lie about its middle (where the slope is
        nearly a simple fraction they all lie aside), so each is moved there along the spread."""
        count, places = np.bincount(self.bins), self.places
        mean = np.bincount(self.bins, self.distance) / count
        found = CubicSpline(mean, np.bincount(self.bins, self.value) / count)
        for _ in range(CENTRINGS):
            moved = self.value - found(self.distance) + found(places)[self.bins]
            found = CubicSpline(places, np.bincount(self.bins, moved) / count)
        return found

    def profile(self) -> Float[np.ndarray, " bins"]:
        """The spread at the bins' middles, smoothed in the halo."""
        places = self.places
        sharp = self.spread()(places)
        smooth = gaussian_filter1d(sharp, HALO_SMOOTHING_PX * self.per_pixel)
        share = np.clip((np.abs(places) - HALO_PX[0]) / (HALO_PX[1] - HALO_PX[0]), 0.0, 1.0)
        return sharp + share * (smooth - sharp)


def measure(image: Float[np.ndarray, "rows cols"], edge: Edge, reach_px: float) -> Transfer:
    """The MTF of an edge, from pixels up to `reach_px` away from it.

    **Raises:** `InputError` where the edge is not inclined enough against the pixels.
    """
    pixels, outliers = _without_outliers(_near(turned(image, edge), edge, reach_px))
    per_pixel, places = pixels.per_pixel, pixels.places
    frequency = np.linspace(0.0, 0.5, FREQUENCIES)
    spread = pixels.profile()
    parts = [pixels.kept(pixels.block != k).profile() for k in range(BLOCKS)]
    values = np.array([_transform(part, per_pixel, frequency) for part in (spread, *parts)])
    smoothed = np.where(frequency > 0.0, SYSTEMATIC, 0.0)
    left = np.array([_left(part) for part in (spread, *parts)])
    normal = np.array([1.0, edge.slope]) / np.hypot(1.0, edge.slope)
    return Transfer(
        frequency,
        values[0],
        np.hypot(_jackknife(values[1:]), smoothed),
        np.sinc(frequency * normal[0]) * np.sinc(frequency * normal[1]),
        places,
        spread,
        0.5 * (places[1:] + places[:-1]),
        _line_spread(spread, per_pixel),
        (float(left[0]), float(_jackknife(left[1:]))),
        outliers,
    )


def _jackknife(parts: np.ndarray) -> np.ndarray:
    """Standard error of what each of `BLOCKS` parts was left out of in turn."""
    away = parts - parts.mean(axis=0)
    return np.asarray(np.sqrt((BLOCKS - 1) / BLOCKS * np.sum(away**2, axis=0)))


def _left(profile: np.ndarray) -> float:
    """How an edge spread changes in the outer parts of its reach: over all of the reach at that
    pace, as a share of its height."""
    outer = max(round(0.5 * TAPER * profile.size / 2), 1)
    ends = [part.mean() for part in (profile[:outer], profile[outer : 2 * outer])]
    ends += [part.mean() for part in (profile[-2 * outer : -outer], profile[-outer:])]
    change = np.array([ends[1] - ends[0], ends[3] - ends[2]]) / (ends[3] - ends[0])
    return float(change[np.argmax(np.abs(change))]) * 0.5 * profile.size / outer


def _without_outliers(pixels: _Pixels) -> tuple[_Pixels, int]:
    """(the pixels with those on the spread that lie far off it, against the scatter of those as far
    from the edge; how many)."""
    mean = np.bincount(pixels.bins, pixels.distance) / np.bincount(pixels.bins)
    middle = CubicSpline(mean, _medians(pixels.bins, pixels.value))
    spread = middle(pixels.distance)
    missed = np.abs(pixels.value - spread)
    ring = np.floor(pixels.distance).astype(int)
    ring = ring - ring.min()
    scatter = _medians(ring, missed) / 0.6745
    height = float(np.ptp(spread))
    # a median may lie anywhere in its bin, and what is not far off does no harm
    slack = 0.02 * height + np.abs(middle(pixels.distance, 1)) / pixels.per_pixel
    out = missed > OUTLIER * scatter[ring] + slack
    return dataclasses.replace(pixels, value=np.where(out, spread, pixels.value)), int(out.sum())


def _medians(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Median of the values of each group, which are numbered from 0."""
    count = np.bincount(group)
    middle = np.cumsum(count) - count + count // 2
    return value[np.lexsort((value, group))][np.minimum(middle, value.size - 1)]


def _near(image: np.ndarray, edge: Edge, reach_px: float) -> _Pixels:
    distance = edge.distance(image.shape)
    rows = np.arange(image.shape[0])[:, None]
    block = np.broadcast_to(rows * BLOCKS // image.shape[0], image.shape)
    best: _Pixels | None = None
    for per_pixel in OVERSAMPLING:
        half = int(reach_px * per_pixel)
        bins = np.floor(distance * per_pixel).astype(int) + half
        inside = (bins >= 0) & (bins < 2 * half)
        index = block[inside] * (2 * half) + bins[inside]
        count = np.bincount(index, minlength=BLOCKS * 2 * half).reshape(BLOCKS, -1)
        # every bin must be seen whichever block is left out
        empty = np.flatnonzero((count.sum(axis=0) - count).min(axis=0) == 0)
        nearest = int(np.min(np.where(empty < half, half - 1 - empty, empty - half), initial=half))
        inside &= (bins >= half - nearest) & (bins < half + nearest)
        found = _Pixels(
            distance[inside],
            image[inside],
            bins[inside] - (half - nearest),
            block[inside],
            per_pixel,
            nearest / per_pixel,
        )
        if best is None or found.reach > 2.0 * best.reach:
            best = found
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
    return np.real(waves) / np.sinc(frequency / per_pixel)  # differences are no derivative
