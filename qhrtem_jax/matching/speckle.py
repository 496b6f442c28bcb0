"""What an image holds besides a crystal and the camera's noise, as a noise with spectra in cosines.

Disordered layers on the faces of the crystal make speckle (`physics.disordered_layer`); whatever
else a model lacks is taken as an intensity of white spectrum, which the camera sees like all else.
The residual of a fit tells how much of each there is.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.fft import dctn
from scipy.optimize import minimize

EXIT, ENTRANCE, UNEXPLAINED = range(3)
"""The parts, in the order of their spectra."""

ROUNDS = 4
"""Times that strengths, and what a fit with weights by these absorbs, are found in turn."""

LEAST_SEEN = 0.01
"""Where the camera leaves less of an intensity than this share of the most, only errors of its own
noise would speak."""

SIGNIFICANT = 2.0
"""Standard errors from which on something is there."""

SURE = 20.0
"""Parts that raise the log likelihood by less than half of this may be chance."""


@dataclasses.dataclass(frozen=True, eq=False)
class Speckle:
    """`spectra`: power of each part, at cosines 0, 1, ... of a patch, for an `amount` of 1: nm of a
    layer of the crystal's own kinds of atoms, variance of a pixel by what is unexplained; `std`,
    standard errors of the amounts."""

    spectra: Float[np.ndarray, "parts m n"]
    amounts: Float[np.ndarray, " parts"]
    std: Float[np.ndarray, " parts"]

    @property
    def has_layers(self) -> bool:
        """Whether any of it is that of a layer, surely."""
        return bool(np.any(self.amounts[:UNEXPLAINED] > SIGNIFICANT * self.std[:UNEXPLAINED]))

    def power(
        self, f_y: Float[np.ndarray, " rows"], f_x: Float[np.ndarray, " cols"]
    ) -> Float[np.ndarray, "rows cols"]:
        """Power at frequencies in cycles a pixel; white noise would have its variance."""
        return self.parts(f_y, f_x).sum(axis=0)

    def parts(
        self, f_y: Float[np.ndarray, " rows"], f_x: Float[np.ndarray, " cols"]
    ) -> Float[np.ndarray, "parts rows cols"]:
        """The same of each part."""
        rows, cols = (
            _between(cosine_frequencies(count), np.abs(f))
            for count, f in zip(self.spectra.shape[1:], (f_y, f_x), strict=True)
        )
        return self.amounts[:, None, None] * (rows @ self.spectra @ cols.T)

    def times(self, factor: float) -> "Speckle":
        """`factor` times as much of each part."""
        return Speckle(self.spectra, factor * self.amounts, factor * self.std)


def cosine_frequencies(count: int) -> Float[np.ndarray, " count"]:
    """Frequencies of the `cosines` of `count` pixels, in cycles a pixel."""
    return np.arange(count) / (2.0 * count)


def cosines(count: int) -> Float[np.ndarray, "count count"]:
    """Orthonormal cosines (DCT-II) of `count` pixels, as rows."""
    phases = np.pi * np.outer(np.arange(count), np.arange(count) + 0.5) / count
    matrix = np.sqrt(2.0 / count) * np.cos(phases)
    matrix[0] = count**-0.5
    return matrix


def in_cosines(images: Float[np.ndarray, "*n rows cols"]) -> Float[np.ndarray, "*n rows cols"]:
    """Coordinates of images in cosines."""
    return np.asarray(dctn(images, axes=(-2, -1), norm="ortho"))


def power_in_cosines(
    images: Float[np.ndarray, "*n rows cols"],
) -> Float[np.ndarray, "*n rows cols"]:
    """Squares of the coordinates of images in cosines."""
    return in_cosines(images) ** 2


def fit_speckle(
    camera: Float[np.ndarray, "rows cols"],
    spectra: Float[np.ndarray, "parts rows cols"],
    missed: Float[np.ndarray, "regions rows cols"],
    jacobians: Float[np.ndarray, "some p rows cols"],
    precision: Float[np.ndarray, " p"],
    least: float = SURE,
) -> Speckle | None:
    """Amounts of the greatest likelihood; None where the camera's noise does as well, to half of
    `least` in the logarithm.

    Coordinates of the residual in cosines are taken as independent and normal (Whittle's
    likelihood). A fit has absorbed a part h of each, the leverage of its parameters, so its square
    is M (1 - h) on average; this is restricted maximum likelihood up to what different coordinates
    have in common (Patterson & Thompson, Biometrika 58, 545, 1971).

    **Arguments:** `camera`, power of the camera's noise in cosines; `spectra` of the parts looked
    for, a white intensity's last; `missed`, residuals; `jacobians` of some regions' images by what
    was fitted, `precision` of its priors.
    """
    count, power = len(missed), power_in_cosines(missed).mean(axis=0)
    white = spectra[-1]
    seen = white > LEAST_SEEN * white.max()
    camera, power, spectra, whole = camera[seen], power[seen], spectra[:, seen], spectra
    slopes = in_cosines(jacobians)[..., seen]
    left = np.ones(camera.shape)
    unit = np.mean(camera) / np.mean(spectra, axis=1)  # amounts that matter

    def power_of(amounts: np.ndarray) -> np.ndarray:
        return camera + (amounts * unit) @ spectra

    def minus_log_likelihood(amounts: np.ndarray) -> tuple[float, np.ndarray]:
        model = power_of(amounts)
        slope = unit * np.sum(spectra * (left / model - power / model**2), axis=1)
        value = np.sum(left * np.log(model) + power / model)
        return 0.5 * count * float(value), 0.5 * count * slope

    none = np.zeros(len(spectra))
    found = none
    for _ in range(ROUNDS):
        left = 1.0 - _leverage(slopes / np.sqrt(power_of(found)), precision)
        bounds = [(0.0, None)] * len(spectra)
        start = np.maximum(found, 1.0)
        found = minimize(minus_log_likelihood, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    gain = minus_log_likelihood(none)[0] - minus_log_likelihood(found)[0]
    if 2.0 * gain < least:
        return None
    information = 0.5 * count * (spectra * left / power_of(found) ** 2) @ spectra.T
    std = np.sqrt(np.maximum(np.diagonal(np.linalg.pinv(information, hermitian=True)), 0.0))
    return Speckle(whole, found * unit, std)


def _leverage(
    white: Float[np.ndarray, "some p n"], precision: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " n"]:
    """Share of each whitened coordinate that a fit absorbs, the mean of some regions."""
    found = np.zeros(white.shape[-1])
    for slopes in white:
        inverse = np.linalg.pinv(slopes @ slopes.T + np.diag(precision), hermitian=True)
        found += np.einsum("pn,pq,qn->n", slopes, inverse, slopes)
    return np.clip(found / len(white), 0.0, 0.99)


def _between(
    known: Float[np.ndarray, " m"], wanted: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n m"]:
    """Matrix that interpolates linearly from equispaced `known` points; constant beyond them."""
    at = np.clip(wanted / known[1], 0.0, len(known) - 1.0)
    below = np.minimum(at.astype(int), len(known) - 2)
    matrix = np.zeros((len(at), len(known)))
    rows = np.arange(len(at))
    matrix[rows, below] = 1.0 - (at - below)
    matrix[rows, below + 1] = at - below
    return matrix
