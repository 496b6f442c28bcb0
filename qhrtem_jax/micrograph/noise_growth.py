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

LATTICE_MEAN, LATTICE_SHARE = 50.0, 0.01
"""A frequency with more than so many times the mean power, and such a share of all, is the
crystal's: pixels are too coarse to have noise alone anywhere."""

SEEN, MATTERS = 3.0, 0.3
"""A growth is spoken of that exceeds so many standard errors, and so much."""


@dataclasses.dataclass(frozen=True)
class NoiseGrowth:
    """By how much the variance of a pixel grows from intensity 1, the vacuum's, to 2, in units of
    the vacuum's variance (0: not at all; 1: in proportion, as counted electrons), and its error."""

    slope: float
    std: float

    @property
    def remark(self) -> str | None:
        """What a report must say of a noise that grows, as pixels are weighed as if it did not."""
        if self.slope < max(SEEN * self.std, MATTERS):
            return None
        return (
            f"the noise grows with the intensity: its variance by {self.slope:.2f} ± "
            f"{self.std:.2f} times that of the vacuum (electrons that are counted: 1), where pixels"
            " are weighed as if it did not; objective.criterion=poisson weighs those of a mean so"
        )


def noise_growth(
    image: Float[np.ndarray, "rows cols"], bad: Bool[np.ndarray, "rows cols"] | None = None
) -> NoiseGrowth | None:
    """That of an image with the vacuum at 1, by weighted least squares of the squares of its
    fastest changes over its intensity; pixels near `bad` ones say nothing. None where there are no
    such changes, or the crystal's are among them."""
    noise = np.asarray(laplace(laplace(image, mode="reflect"), mode="reflect"))
    if _of_lattice(noise):
        return None
    above = np.asarray(gaussian_filter(image, SMOOTH_PX, mode="reflect")) - 1.0
    edges = np.abs(noise) > FAR * 1.4826 * np.median(np.abs(noise))
    hidden = edges if bad is None else edges | bad
    shown = ~np.asarray(binary_dilation(hidden, iterations=BESIDE), dtype=bool)
    squares, design = noise[shown] ** 2, np.stack([np.ones(shown.sum()), above[shown]], axis=1)
    found = np.array([squares.mean(), 0.0])
    for _ in range(3):  # the variance of a square is twice the square of its mean
        weights = _variance(found, above[shown]) ** -2
        normal = (design * weights[:, None]).T @ design
        found = np.linalg.solve(normal, (design * weights[:, None]).T @ squares)
    covariance = 2.0 * _alike(noise * _variance(found, above) ** -0.5) * np.linalg.inv(normal)
    slope = found[1] / found[0]
    by = np.array([-slope, 1.0]) / found[0]
    return NoiseGrowth(float(slope), float(np.sqrt(by @ covariance @ by)))


def _of_lattice(noise: np.ndarray) -> bool:
    """Whether nothing is left, or frequencies that stick out."""
    power = np.abs(np.fft.fft2(noise)) ** 2
    most = max(LATTICE_MEAN * float(power.mean()), LATTICE_SHARE * float(power.sum()))
    return not 0.0 < float(power.max()) <= most


def _variance(line: np.ndarray, above: np.ndarray) -> np.ndarray:
    least = LEAST_VARIANCE * max(line[0], 1e-30)
    return np.maximum(line[0] + line[1] * above, least)


def _alike(noise: np.ndarray) -> float:
    """How many pixels' squares say as much as one that is independent: the sum of the squares of
    the noise's correlation."""
    correlation = np.fft.ifft2(np.abs(np.fft.fft2(noise)) ** 2).real
    near = [np.r_[-AROUND : AROUND + 1] for _ in noise.shape]
    return float(np.sum((correlation[np.ix_(*near)] / correlation[0, 0]) ** 2))
