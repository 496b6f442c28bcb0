"""Noise of a vacuum-normalised image: variance, and correlation between neighbouring pixels.

A camera spreads each electron over pixels, so its noise is correlated. The model is stationary and
separable: cov(r, r') = variance rho(|dy|) rho(|dx|), rho(0) = 1, rho given by its first lags. What
lies on a crystal may add its speckle (`matching.speckle`). The noise of counted electrons grows
with the intensity: by `growth`, cov(r, r') is that times d(r) d(r'), d^2 = 1 + growth (I - 1).
"""

import dataclasses
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from qhrtem_jax.errors import InputError
from qhrtem_jax.matching.speckle import Speckle, cosine_frequencies

LAGS = 4
"""Lags that are measured; beyond them the correlation is taken as zero."""

LEAST_POWER = -0.02
"""Power, in units of white noise's, to which a correlation may fall at any frequency: that of one
whose lags are rounded, or cut off where they have nearly vanished, falls a little below zero."""

SPECTRAL_FLOOR = 0.1
"""Smallest power, in units of white noise's, that whitening grants any pattern of pixels along an
axis: the spectrum of a camera's noise nearly vanishes near 0.8 Nyquist, where no model is that
good."""

LARGE = 512
"""Pixels along an axis above which a correlation matrix is not diagonalised without need."""

GUESSED_VARIANCE = 1e-3
"""Variance of a pixel that weighs the first fit where no noise is known."""

MISFIT_MATTERS = 1.5
"""Where a model misses by more than this many times the noise, its misfit weighs the pixels."""

INTENSITY_PX, DARKEST = 1.0, 0.1
"""The intensity that noise grows with is that of the image smoothed by a Gaussian of this
deviation; variances are at least this share of the vacuum's."""

Source = Literal["vacuum", "given", "residual", "misfit"]
"""Where a noise comes from: a patch of vacuum, the user, what a fit leaves over; or no noise at
all but what a model misses by, which weighs the pixels where that is more."""


@dataclasses.dataclass(frozen=True)
class NoiseModel:
    """`variance` of a pixel; `lags`: correlation to the next, second, ... pixel along an axis, both
    of the camera; `speckle`, of what lies on the crystal; `growth`: by how much the variance grows
    from intensity 1, the vacuum's, to 2, over what it is at 1 (0: not at all; 1: in proportion, as
    that of counted electrons).

    `source` says where it comes from. A correlation that is given must be one; of a measured one,
    negative powers are cut off (see `remark`).
    """

    variance: float
    lags: tuple[float, ...] = ()
    source: Source = "given"
    speckle: Speckle | None = None
    growth: float = 0.0

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise ValueError(f"no source of a noise: {self.source}, expected {get_args(Source)}")
        if not (np.isfinite(self.variance) and self.variance > 0.0):
            raise InputError(
                f"variance of the noise: found {self.variance}, expected a positive number"
            )
        if not all(np.isfinite(lag) and abs(lag) < 1.0 for lag in self.lags):
            raise InputError(
                f"correlation of the noise: found {list(self.lags)}, expected numbers within -1..1"
            )
        if not 0.0 <= self.growth <= 1.0:
            raise InputError(f"growth of the noise: found {self.growth}, expected 0 to 1")
        if self.source == "given" and self.least_power < LEAST_POWER:
            raise InputError(
                f"correlation of the noise: found {[float(lag) for lag in self.lags]}, whose power "
                f"is negative ({self.least_power:.2g}) at some frequencies, which no noise has: "
                "expected correlations that fall off, with all lags until they vanish"
            )

    @property
    def is_noise(self) -> bool:
        """Whether this is the noise of the image; else it stands for what a model misses by."""
        return self.source != "misfit"

    @property
    def grows(self) -> bool:
        """Whether pixels weigh by the intensity: what a model misses by, or what lies on the
        crystal, does not grow as a camera's noise does."""
        return self.growth > 0.0 and self.is_noise and self.speckle is None

    @property
    def least_power(self) -> float:
        """The smallest power at any frequency, in units of white noise's."""
        # between 0 and Nyquist, far denser than a spectrum of so few lags can turn
        return float(np.min(_powers(self.lags, np.linspace(0.0, np.pi, 64 * len(self.lags) + 1))))

    @property
    def remark(self) -> str | None:
        """What a report must say of a measured correlation that is none of any noise."""
        if self.least_power >= LEAST_POWER:
            return None
        return (
            f"the noise's correlation measured from the {self.source} has negative power "
            f"(down to {self.least_power:.2g}) at some frequencies: it is cut off at zero there"
        )

    def correlation(self, count: int) -> Float[np.ndarray, "count count"]:
        """Correlation matrix along one axis, made positive semi-definite."""
        rho = np.zeros(count)
        known = np.array([1.0, *self.lags])[:count]
        rho[: known.size] = known
        index = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
        if count > LARGE and np.min(self.camera_power(np.fft.fftfreq(16 * LARGE))) > 0.0:
            return rho[index]  # positive as it is, by its spectrum
        values, vectors = np.linalg.eigh(rho[index])
        matrix = (vectors * np.maximum(values, 0.0)) @ vectors.T
        scale = np.sqrt(np.diagonal(matrix))
        return matrix / np.outer(scale, scale)

    def camera_power(self, f: Float[np.ndarray, " count"]) -> Float[np.ndarray, " count"]:
        """Power of the camera's part along one axis at `f` cycles a pixel, in units of white
        noise's."""
        return np.maximum(_powers(self.lags, 2.0 * np.pi * f), 0.0)

    def of_camera(
        self, f_y: Float[np.ndarray, " rows"], f_x: Float[np.ndarray, " cols"]
    ) -> Float[np.ndarray, "rows cols"]:
        """Power of the camera's part at `f_y` and `f_x` cycles a pixel; white noise would have its
        variance."""
        return self.variance * np.outer(self.camera_power(f_y), self.camera_power(f_x))

    def in_cosines(self, shape: tuple[int, int]) -> Float[np.ndarray, "rows cols"]:
        """Power of both parts in the cosines of a frame; white noise would have its variance. The
        camera's is at least `SPECTRAL_FLOOR` along either axis."""
        f_y, f_x = cosine_frequencies(shape[0]), cosine_frequencies(shape[1])
        along = [np.maximum(self.camera_power(f), SPECTRAL_FLOOR) for f in (f_y, f_x)]
        return self._with_speckle(self.variance * np.outer(along[0], along[1]), f_y, f_x)

    def in_fourier(self, shape: tuple[int, int]) -> Float[np.ndarray, "rows cols"]:
        """Power of both parts at the FFT frequencies of a frame."""
        f_y, f_x = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1])
        return self._with_speckle(self.of_camera(f_y, f_x), f_y, f_x)

    def _with_speckle(self, own: np.ndarray, f_y: np.ndarray, f_x: np.ndarray) -> np.ndarray:
        return own if self.speckle is None else own + self.speckle.power(f_y, f_x)

    def deviation(
        self, image: Float[np.ndarray, "rows cols"]
    ) -> Float[np.ndarray, "rows cols"] | None:
        """Standard deviation of each pixel of `image`, over that of a pixel of the vacuum; None
        where it is the same everywhere."""
        if not self.grows:
            return None
        intensity = np.asarray(gaussian_filter(image, INTENSITY_PX, mode="nearest"), float)
        return np.sqrt(np.maximum(1.0 + self.growth * (intensity - 1.0), DARKEST))

    def times(self, factor: float, source: Source) -> "NoiseModel":
        """`factor` times as much of everything."""
        speckle = None if self.speckle is None else self.speckle.times(factor)
        variance = self.variance * factor
        return dataclasses.replace(self, variance=variance, source=source, speckle=speckle)

    def of_average(self, count: int) -> "NoiseModel":
        """Noise of the mean of `count` independent images."""
        return self.times(1.0 / count, self.source)


GUESSED_NOISE = NoiseModel(GUESSED_VARIANCE, (), "misfit")
"""Weighs the pixels of a first fit where no noise is known."""


def measure_noise(patch: Float[np.ndarray, "rows cols"], source: Source = "vacuum") -> NoiseModel:
    """Noise of a featureless patch, after removing a plane (uneven illumination).

    **Raises:** `InputError` if the patch is too small or constant.
    """
    rows, cols = patch.shape
    if min(rows, cols) < 8:
        raise InputError(f"found a patch of {rows} x {cols}, expected at least 8 x 8")
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    design = np.stack([np.ones(patch.size), y.ravel(), x.ravel()], axis=1)
    plane = design @ np.linalg.lstsq(design, patch.ravel(), rcond=None)[0]
    residual = patch - plane.reshape(patch.shape)
    variance = float(np.sum(residual**2) / (patch.size - 3))
    if variance <= 1e-20:
        raise InputError("the patch is constant, so it holds no noise")
    lags = []
    for lag in range(1, LAGS + 1):
        down = np.mean(residual[lag:] * residual[:-lag])
        along = np.mean(residual[:, lag:] * residual[:, :-lag])
        lags.append(float(np.clip(0.5 * (down + along) / variance, -0.99, 0.99)))
    return NoiseModel(variance, tuple(lags), source)


def effective_variance(noise: NoiseModel, image: Float[np.ndarray, "rows cols"]) -> float:
    """Variance that white noise would need to hide the structure of `image` as much.

    The noise's power spectrum, averaged over frequencies with the power of the image's contrast:
    correlated noise is strongest at the low frequencies where a lattice image lives. This is the
    weight of the pixels against priors.
    """
    power = np.abs(np.fft.fft2(image - np.mean(image))) ** 2
    known = noise.in_fourier(image.shape)
    return float(np.sum(power * known) / np.sum(power))


def misfit_variance(
    residual: Float[np.ndarray, "rows cols"], image: Float[np.ndarray, "rows cols"]
) -> float:
    """`effective_variance` of a residual: its power where `image` has its contrast."""
    power = np.abs(np.fft.fft2(image - np.mean(image))) ** 2
    missed = np.abs(np.fft.fft2(residual)) ** 2 / residual.size
    return float(np.sum(power * missed) / np.sum(power))


def _powers(lags: tuple[float, ...], angle: np.ndarray) -> np.ndarray:
    """Power of unit-variance noise at phases `angle` per pixel, negative where `lags` are none."""
    terms = [2.0 * rho * np.cos((k + 1) * angle) for k, rho in enumerate(lags)]
    return 1.0 + np.sum(terms, axis=0) if lags else np.ones(angle.size)
