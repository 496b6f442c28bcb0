"""Speckle as a noise: its spectra, its amounts from a residual, what it does to weights."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.fft import dctn, idctn

from qhrtem_jax.matching.likelihood import make_likelihood
from qhrtem_jax.matching.noise import NoiseModel, effective_variance
from qhrtem_jax.matching.speckle import (
    UNEXPLAINED,
    Speckle,
    cosine_frequencies,
    cosines,
    fit_speckle,
    power_in_cosines,
)
from qhrtem_jax.matching.weights import (
    Fitted,
    PossibleLayers,
    pixel_weights,
    same_weights,
    tempered,
)

SHAPE = (20, 28)
CAMERA = NoiseModel(1e-4, (0.4, 0.1))
F = np.hypot(*np.meshgrid(*(cosine_frequencies(n) for n in SHAPE), indexing="ij"))
SPECTRA = np.stack(
    [
        1e-2 * np.sin(60.0 * F**2) ** 2 * np.exp(-((F / 0.12) ** 2)),
        1e-2 * np.sin(120.0 * F**2) ** 2 * np.exp(-((F / 0.12) ** 2)),
        np.exp(-((F / 0.15) ** 2)),
    ]
)
SPECTRA[UNEXPLAINED] /= SPECTRA[UNEXPLAINED].mean()
NOTHING = np.zeros((1, 1, *SHAPE)), np.ones(1)


def drawn(amounts, regions, seed):
    power = CAMERA.in_cosines(SHAPE) + np.tensordot(amounts, SPECTRA, axes=1)
    normal = np.random.default_rng(seed).normal(size=(regions, *SHAPE))
    return idctn(np.sqrt(power) * normal, axes=(1, 2), norm="ortho")


def speckled(amounts):
    return NoiseModel(
        CAMERA.variance, CAMERA.lags, "given", Speckle(SPECTRA, np.array(amounts), np.zeros(3))
    )


def test_cosines_are_those_of_scipy():
    images = np.random.default_rng(0).normal(size=(2, *SHAPE))
    rows, cols = (cosines(n) for n in SHAPE)
    np.testing.assert_allclose(rows @ images @ cols.T, dctn(images, axes=(1, 2), norm="ortho"))
    np.testing.assert_allclose(power_in_cosines(images), (rows @ images @ cols.T) ** 2)
    np.testing.assert_allclose(rows @ rows.T, np.eye(SHAPE[0]), atol=1e-12)


@pytest.mark.parametrize("amounts", [(0.4, 0.0, 0.0), (0.1, 0.3, 0.0), (0.2, 0.1, 5e-5)])
def test_amounts_come_back_within_their_errors(amounts):
    errors = []
    for seed in range(12):
        found = fit_speckle(CAMERA.in_cosines(SHAPE), SPECTRA, drawn(amounts, 6, seed), *NOTHING)
        assert found is not None
        errors.append((found.amounts - amounts) / found.std)
    errors = np.array(errors)
    present = np.array(amounts) > 0.0
    assert np.all(np.abs(errors[:, present].mean(axis=0)) < 1.0)
    assert np.all(np.std(errors[:, present], axis=0) < 1.6)
    assert np.std(errors[:, present]) > 0.5
    assert np.all(np.abs(errors[:, ~present]) < 4.0)


def test_without_speckle_none_is_found():
    for seed in range(8):
        missed = drawn(np.zeros(3), 6, seed)
        assert fit_speckle(CAMERA.in_cosines(SHAPE), SPECTRA, missed, *NOTHING) is None


def test_what_a_fit_has_absorbed_counts():
    """Residuals of least squares hold less than the noise; without that, amounts are too small."""
    amounts, parameters = np.array([0.4, 0.0, 0.0]), 12
    power = CAMERA.in_cosines(SHAPE) + np.tensordot(amounts, SPECTRA, axes=1)
    generator = np.random.default_rng(3)
    # parameters act where the layer has its power
    jacobian = np.sqrt(power) * SPECTRA[0] * generator.normal(size=(parameters, *SHAPE))
    white = (jacobian / np.sqrt(power)).reshape(parameters, -1)
    basis = np.linalg.qr(white.T)[0]
    left = []
    for image in drawn(amounts, 40, 4):
        seen = (dctn(image, norm="ortho") / np.sqrt(power)).ravel()
        left.append(np.sqrt(power) * (seen - basis @ (basis.T @ seen)).reshape(SHAPE))
    missed = idctn(np.array(left), axes=(1, 2), norm="ortho")
    pixels = idctn(jacobian, axes=(1, 2), norm="ortho")[None]
    camera = CAMERA.in_cosines(SHAPE)
    aware = fit_speckle(camera, SPECTRA, missed, pixels, np.zeros(parameters))
    blind = fit_speckle(camera, SPECTRA, missed, *NOTHING)
    assert aware is not None
    assert blind is not None
    assert aware.amounts[0] == pytest.approx(0.4, rel=0.12)
    assert blind.amounts[0] < 0.3


def test_whitened_speckle_is_white_and_as_likely_as_its_covariance_says():
    noise = speckled((0.4, 0.1, 2e-5))
    missed = drawn(np.array([0.4, 0.1, 2e-5]), 300, 5)
    likelihood = make_likelihood(noise, SHAPE, jnp.dtype("float64"))
    white = np.asarray(likelihood.whiten(missed))
    assert np.mean(white**2) == pytest.approx(1.0, abs=0.01)
    assert np.std(np.mean(white**2, axis=0)) == pytest.approx((2 / 300) ** 0.5, rel=0.15)
    basis = np.kron(*(cosines(n) for n in SHAPE))
    covariance = basis.T @ np.diag(noise.in_cosines(SHAPE).ravel()) @ basis
    one = missed[0].ravel()
    expected = one @ scipy.linalg.solve(covariance, one, assume_a="pos")
    found = float(likelihood.objective(missed[0], np.zeros(SHAPE)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_other_frames_have_the_same_speckle():
    """Spectra of a patch serve frames of any size."""
    noise = speckled((0.4, 0.1, 2e-5))
    larger = noise.in_cosines((60, 84))
    np.testing.assert_allclose(larger[::3, ::3], noise.in_cosines(SHAPE), rtol=0.02, atol=1e-6)
    assert noise.in_fourier((41, 57)).mean() == pytest.approx(larger.mean(), rel=0.05)
    # which is the same on either side of zero
    fourier = noise.in_fourier((40, 56))
    np.testing.assert_allclose(fourier[1:], fourier[1:][::-1], rtol=1e-9)
    # twice as much of everything
    np.testing.assert_allclose(
        noise.times(2.0, "misfit").in_fourier((40, 56)), 2.0 * fourier, rtol=1e-12
    )
    assert noise.of_average(4).in_cosines(SHAPE)[3, 3] == pytest.approx(
        0.25 * noise.in_cosines(SHAPE)[3, 3]
    )


def layers():
    return PossibleLayers(SPECTRA, Fitted(*NOTHING), Fitted(*NOTHING))


def test_speckle_weighs_the_pixels_where_it_explains_the_misfit():
    images = np.random.default_rng(8).normal(size=(6, *SHAPE))
    missed = drawn(np.array([0.8, 0.0, 0.0]), 6, 1)
    given = pixel_weights(CAMERA, missed, images, layers)
    assert given.speckle is not None
    assert given.is_noise
    assert given.speckle.amounts[0] == pytest.approx(0.8, abs=5 * given.speckle.std[0])
    assert pixel_weights(CAMERA, missed, images).source == "misfit"
    assert not same_weights(given, CAMERA)
    assert same_weights(given, pixel_weights(CAMERA, missed, images, layers))
    assert not same_weights(given, given.times(1.5, "given"))
    # the part that no layer explains is in it already
    assert tempered(given, 2.0 * missed, images, 0) is given
    # correlated noise hides more of a smooth image
    smooth = idctn(np.where(F < 0.1, 1.0, 0.0), norm="ortho")
    assert effective_variance(given, smooth) > 2.0 * effective_variance(CAMERA, smooth)


def test_what_all_regions_miss_alike_is_no_layer():
    """Layers are disordered: an error that is the same in all regions is the model's, though it has
    a layer's spectrum."""
    images = np.random.default_rng(8).normal(size=(6, *SHAPE))
    layer = drawn(np.array([0.8, 0.0, 0.0]), 6, 1)
    normal = np.random.default_rng(2).normal(size=SHAPE)
    wrong = idctn(np.sqrt(3.0 * SPECTRA[0]) * normal, norm="ortho")
    apart = pixel_weights(CAMERA, layer, images, layers)
    both = pixel_weights(CAMERA, layer + wrong, images, layers)
    assert apart.speckle is not None
    assert both.speckle is not None
    assert both.speckle.amounts[0] == pytest.approx(apart.speckle.amounts[0], rel=0.05)
    assert apart.is_noise
    assert not both.is_noise
    assert 0.5 < both.speckle.amounts[UNEXPLAINED] / np.mean(wrong**2) < 1.2
    assert both.speckle.has_layers
    # an error of the model alone is no layer, and how much of one there may be is known
    alone = pixel_weights(CAMERA, drawn(np.zeros(3), 6, 1) + wrong, images, layers)
    assert alone.speckle is not None
    assert not alone.speckle.has_layers
    assert np.all(alone.speckle.std > 0.0)
    # few regions do not tell it
    few = pixel_weights(CAMERA, (layer + wrong)[:3], images[:3], layers)
    assert few.speckle is not None
    assert few.speckle.amounts[0] > 2.0


def test_a_misfit_of_another_kind_is_no_layer():
    """A misfit that is white over all frequencies is none that the camera could have seen."""
    images = np.random.default_rng(9).normal(size=(6, *SHAPE))
    missed = 0.1 * np.random.default_rng(2).normal(size=(6, *SHAPE))
    assert pixel_weights(CAMERA, missed, images, layers).source == "misfit"
