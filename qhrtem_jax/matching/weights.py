"""What weighs the pixels, and what the errors that follow from it are worth."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from qhrtem_jax.matching.noise import (
    MISFIT_MATTERS,
    NoiseModel,
    effective_variance,
    measure_noise,
    misfit_variance,
)
from qhrtem_jax.matching.speckle import (
    SIGNIFICANT,
    UNEXPLAINED,
    Speckle,
    fit_speckle,
    power_in_cosines,
)

CONTRAST = 0.999
"""Share of the power of images that lies at the frequencies where a misfit is looked for."""

LEAST_SPECTRUM = 0.05
"""Least power of a noise there, in units of white noise's."""

SEVERAL = 4
"""Regions from which on what they miss alike is told from what differs between them."""

TEMPERED = 1.3
"""A misfit of less than this many times the noise may be chance."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """`jacobians` of some regions' images by what was fitted, `precision` of its priors."""

    jacobians: Float[np.ndarray, "some p rows cols"]
    precision: Float[np.ndarray, " p"]


@dataclasses.dataclass(frozen=True, eq=False)
class PossibleLayers:
    """What tells how much of a misfit disordered layers make: `spectra`, power of each part of
    `matching.speckle` in cosines; `own`, what was fitted to each region alone; `every`, that and
    what was fitted to all of them together."""

    spectra: Float[np.ndarray, "parts rows cols"]
    own: Fitted
    every: Fitted


def pixel_weights(
    noise: NoiseModel | None,
    residuals: Float[np.ndarray, "regions rows cols"],
    images: Float[np.ndarray, "regions rows cols"],
    layers: Callable[[], PossibleLayers] | None = None,
) -> NoiseModel:
    """The noise that weighs pixels: the given one, or that of the residual where none is given.

    Where the model misses by more than the noise, speckle of disordered layers may explain it
    (`layers`, None: they are not asked for), as may its misfit (`is_noise` is false), what it does
    not know: that is taken as white with the power that the residual has where the image has its
    contrast. Whichever makes the residual more likely is taken.
    """
    mse = float(np.mean(residuals**2))
    if noise is not None and mse < MISFIT_MATTERS * noise.variance:
        return noise
    if noise is None:
        measured = [measure_noise(r, "residual") for r in residuals]
        lags = tuple(float(lag) for lag in np.mean([m.lags for m in measured], axis=0))
        return NoiseModel(mse, lags, "residual")
    misfits = [misfit_variance(r, i) for r, i in zip(residuals, images, strict=True)]
    misfit = NoiseModel(max(float(np.mean(misfits)), mse), (), "misfit")
    with_speckle = None if layers is None else _with_speckle(noise, residuals, layers())
    if with_speckle is None:
        return misfit
    return max((with_speckle, misfit), key=lambda n: _log_likelihood(n, residuals))


def _with_speckle(
    noise: NoiseModel, residuals: Float[np.ndarray, "regions rows cols"], layers: PossibleLayers
) -> NoiseModel | None:
    """The noise with the speckle that is most likely; None where there is none.

    Layers are disordered, so that each region has its own speckle. What all miss alike is an error
    of the model, whose spectrum is not known: it counts as unexplained.
    """
    shape, spectra = _shape(residuals), layers.spectra
    alike, differing = _alike_and_differing(residuals)
    camera, own = noise.in_cosines(shape), (layers.own.jacobians, layers.own.precision)
    speckle = fit_speckle(camera, spectra, differing, *own)
    if len(alike):
        known = dataclasses.replace(noise, speckle=speckle).in_cosines(shape)
        absorbed = layers.every.jacobians, layers.every.precision
        wrong = fit_speckle(known, spectra[UNEXPLAINED:], alike, *absorbed)
        if wrong is not None:
            # how much of layers there is, though it may be none
            found = speckle or fit_speckle(camera, spectra, differing, *own, least=-np.inf)
            speckle = _with_unexplained(found, wrong, len(residuals))
    if speckle is None:
        return None
    # what no layer explains is a misfit, though it has a spectrum
    unknown = speckle.amounts[UNEXPLAINED] > SIGNIFICANT * speckle.std[UNEXPLAINED]
    source = "misfit" if unknown else noise.source
    return dataclasses.replace(noise, speckle=speckle, source=source)


def _alike_and_differing(
    residuals: Float[np.ndarray, "regions rows cols"],
) -> tuple[Float[np.ndarray, "one rows cols"], Float[np.ndarray, "others rows cols"]]:
    """Orthonormal combinations of the regions' residuals: that which holds what all miss alike,
    and those that hold nothing of it. Of few regions all count as differing."""
    count = len(residuals)
    if count < SEVERAL:
        return residuals[:0], residuals
    # the first column of a complete basis is that in which all have the same share
    basis = np.linalg.qr(np.column_stack([np.ones(count), np.eye(count)[:, 1:]]))[0]
    combined = np.tensordot(basis.T, residuals, axes=1)
    return combined[:1], combined[1:]


def _with_unexplained(speckle: Speckle | None, wrong: Speckle, regions: int) -> Speckle:
    """The speckle, and what all regions miss alike: `wrong`, found in their sum over the root of
    their number."""
    assert speckle is not None  # nothing is too little for it
    amounts, std = speckle.amounts.copy(), speckle.std.copy()
    amounts[UNEXPLAINED] += wrong.amounts[0] / regions
    std[UNEXPLAINED] = np.hypot(std[UNEXPLAINED], wrong.std[0] / regions)
    return Speckle(speckle.spectra, amounts, std)


def _shape(images: Float[np.ndarray, "regions rows cols"]) -> tuple[int, int]:
    return images.shape[1], images.shape[2]


def _log_likelihood(noise: NoiseModel, residuals: Float[np.ndarray, "regions rows cols"]) -> float:
    """Whittle's, less a constant."""
    model = noise.in_cosines(_shape(residuals))
    return -0.5 * float(np.sum(np.log(model) + power_in_cosines(residuals).mean(axis=0) / model))


def tempered(
    noise: NoiseModel,
    residuals: Float[np.ndarray, "regions rows cols"],
    images: Float[np.ndarray, "regions rows cols"],
    fitted: int,
) -> NoiseModel:
    """`noise` with its variance raised to what a model misses at the frequencies where images have
    their contrast: errors of a model are there, where few pixels' worth of noise hides them.

    **Arguments:** `fitted`, how many parameters each residual has absorbed.

    **Returns:** the noise itself where that explains the misfit (up to `TEMPERED` times), or where
    it holds the misfit already.
    """
    if not noise.is_noise or noise.speckle is not None:
        return noise
    contrast = images - np.mean(images, axis=(1, 2), keepdims=True)
    power = np.mean(np.abs(np.fft.fft2(contrast)) ** 2, axis=0)
    strongest = np.sort(power.ravel())[::-1]
    held = np.searchsorted(np.cumsum(strongest), CONTRAST * power.sum())
    band = power >= strongest[min(int(held), power.size - 1)]
    known = np.maximum(noise.in_fourier(_shape(images)), LEAST_SPECTRUM * noise.variance)
    missed = np.mean(np.abs(np.fft.fft2(residuals)) ** 2, axis=0) / power.size / known
    left = max(band.sum() - fitted, band.sum() / 2)
    factor = float(np.sum(missed[band]) / left)
    if factor < TEMPERED:
        return noise
    return noise.times(factor, "misfit")


def same_weights(one: NoiseModel, other: NoiseModel, share: float = 0.05) -> bool:
    """Whether two noises weigh pixels alike: variances within `share`, correlations within 0.05,
    powers of speckle within `share`."""
    if (one.speckle is None) != (other.speckle is None) or one.source != other.source:
        return False
    longest = max(len(one.lags), len(other.lags))
    lags = [np.pad(noise.lags, (0, longest - len(noise.lags))) for noise in (one, other)]
    close = np.isclose(one.variance, other.variance, rtol=share)
    if one.speckle is not None and other.speckle is not None:
        powers = [np.tensordot(s.amounts, s.spectra, axes=1) for s in (one.speckle, other.speckle)]
        close &= np.allclose(*powers, rtol=share, atol=share * one.variance)
    close &= one.grows * one.growth == other.grows * other.growth
    return bool(close and np.allclose(*lags, rtol=0.0, atol=0.05))


@dataclasses.dataclass(frozen=True)
class ErrorScale:
    """From errors that follow from the weights of a fit to those that results give.

    `noise`: factor to the error from the noise alone; `misfit`: from that to the error scaled by
    the misfit, sqrt(max(1, chi2)); `chi2`: reduced chi-square against the noise.
    """

    noise: float
    misfit: float
    chi2: float


def error_scale(
    weights: NoiseModel,
    noise: NoiseModel | None,
    image: Float[np.ndarray, "rows cols"],
    residual: Float[np.ndarray, "..."],
    weighted_chi2: float,
) -> ErrorScale:
    """From errors under `weights` to those under the `noise` of the image (None: unknown).

    **Arguments:** `residual`, of the pixels that were fitted; `weighted_chi2`, reduced chi-square
    against the weights.
    """
    if weights.is_noise or noise is None:
        return ErrorScale(1.0, float(np.sqrt(max(1.0, weighted_chi2))), weighted_chi2)
    chi2 = float(np.mean(residual**2)) / noise.variance
    share = float(np.sqrt(effective_variance(noise, image) / effective_variance(weights, image)))
    return ErrorScale(share, float(np.sqrt(max(1.0, chi2))), chi2)
