"""How the noise of an image grows with its intensity: that of counted electrons in proportion.

A microscope passes nothing of the crystal far beyond its information limit, where pixels that are
small enough still see. What is left there (the image's Laplacian, twice) is the camera's noise,
everywhere in the image, whose power is compared with the intensity at hand.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, gaussian_filter, laplace

FAR, BESIDE = 5.0, 3
"""Pixels where so many deviations are left, and those within reach of them, show an edge."""

SMOOTH_PX = 1.0
"""The intensity is looked at with this deviation of a Gaussian: less shows its own noise, more
hides that it is high in columns."""

LEAST_VARIANCE = 0.1
"""Of the vacuum's: a line through zero would weigh dark pixels without bounds."""

AROUND = 12
"""Pixels within which the noise of pixels is correlated."""

AROUND_BINS, STICKS_OUT, OF_LATTICE = 8.0, 15.0, 0.1
"""Frequencies with so many times the mean power around them (a Gaussian of so many bins) are the
crystal's, and left out; where they hold such a share of all, pixels are too coarse to show noise
alone."""

LEAST_PIXELS, LARGEST_STD = 1000, 1.0
"""With fewer pixels, or a larger error, nothing is told."""

SEEN, MATTERS = 3.0, 0.3
"""A growth weighs pixels that exceeds so many standard errors, and so much."""

LARGEST_VARIANCE = 1e-3
"""Of more noise, weights by the image's own intensities hold that: dark by chance weighs more, and
the mean would be off by nine tenths of the variance."""


@dataclasses.dataclass(frozen=True)
class NoiseGrowth:
    """By how much the variance of a pixel grows from intensity 1, the vacuum's, to 2, in units of
    the vacuum's variance (0: not at all; 1: in proportion, as counted electrons), and its error."""

    slope: float
    std: float


def grown(found: NoiseGrowth | None, variance: float) -> float:
    """The growth that weighs pixels, of noise with that `variance`: what was found where it is
    there surely, at most that of counted electrons; else none."""
    if found is None or variance > LARGEST_VARIANCE:
        return 0.0
    if found.slope < max(SEEN * found.std, MATTERS):
        return 0.0
    return min(found.slope, 1.0)


def noise_growth(
    image: Float[np.ndarray, "rows cols"], bad: Bool[np.ndarray, "rows cols"] | None = None
) -> NoiseGrowth | None:
    """That of an image with the vacuum at 1, by weighted least squares of the squares of its
    fastest changes over its intensity; pixels near `bad` ones say nothing. None where there are no
    such changes, where the crystal's are among them, or where the image is too small to tell.

    The intensity at hand is a mean over few pixels, with their noise: below about a hundred
    electrons a pixel, and for lattices of less than about twelve pixels, the slope comes out too
    large (1.1 to 1.4 for 1).
    """
    noise = _without_lattice(laplace(laplace(image, mode="reflect"), mode="reflect"))
    spread = 0.0 if noise is None else 1.4826 * float(np.median(np.abs(noise)))
    if noise is None or not (np.isfinite(spread) and spread > 0.0):
        return None
    above = np.asarray(gaussian_filter(image, SMOOTH_PX, mode="reflect"), dtype=float) - 1.0
    line = np.array([spread**2, 0.0])
    for _ in range(3):
        variance = _variance(line, above)
        hidden = noise**2 > FAR**2 * variance
        hidden = hidden if bad is None else hidden | bad
        shown = ~np.asarray(binary_dilation(hidden, iterations=BESIDE), dtype=bool)
        if shown.sum() < LEAST_PIXELS or not np.ptp(above[shown]) > 0.0:
            return None
        design = np.stack([np.ones(shown.sum()), above[shown]], axis=1)
        weighted = design * variance[shown, None] ** -2  # that of a square: twice its mean's square
        normal = weighted.T @ design
        line = np.linalg.solve(normal, weighted.T @ noise[shown] ** 2)
    if not line[0] > 0.0:
        return None
    alike = _alike(np.where(shown, noise * _variance(line, above) ** -0.5, 0.0))
    covariance = 2.0 * alike * np.linalg.inv(normal)
    slope = line[1] / line[0]
    by = np.array([-slope, 1.0]) / line[0]
    std = float(np.sqrt(by @ covariance @ by))
    return NoiseGrowth(float(slope), std) if std <= LARGEST_STD else None


def _without_lattice(fast: np.ndarray) -> Float[np.ndarray, "rows cols"] | None:
    """The fast changes of an image without frequencies that stick out; None where these are more
    than a little."""
    spectrum = np.fft.fft2(fast)
    power = np.abs(spectrum) ** 2
    around = np.asarray(gaussian_filter(power, AROUND_BINS, mode="wrap"))
    sharp = power > STICKS_OUT * around
    if float(power[sharp].sum()) > OF_LATTICE * float(power.sum()):
        return None
    return np.fft.ifft2(np.where(sharp, 0.0, spectrum)).real


def _variance(line: np.ndarray, above: np.ndarray) -> np.ndarray:
    least = LEAST_VARIANCE * max(line[0], 1e-30)
    return np.maximum(line[0] + line[1] * above, least)


def _alike(noise: np.ndarray) -> float:
    """How many pixels' squares say as much as one that is independent: the sum of the squares of
    the noise's correlation."""
    correlation = np.fft.ifft2(np.abs(np.fft.fft2(noise)) ** 2).real
    reach = [min(AROUND, (n - 1) // 2) for n in noise.shape]
    near = [np.r_[-n : n + 1] for n in reach]
    return float(np.sum((correlation[np.ix_(*near)] / correlation[0, 0]) ** 2))
