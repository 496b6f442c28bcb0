"""Whitened residuals against the covariance that they are made of; what weighs the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.matching.likelihood import make_likelihood, mean_square
from qhrtem_jax.matching.noise import GUESSED_NOISE, NoiseModel
from qhrtem_jax.matching.weights import error_scale, pixel_weights, same_weights, tempered

SHAPE = (6, 9)
NOISE = NoiseModel(4e-2, (0.4, 0.1))
FLOAT64 = jnp.dtype("float64")
rng = np.random.default_rng(4)
EXPERIMENT, SIMULATION = rng.normal(size=(2, *SHAPE))


def test_the_objective_is_chi_square_of_the_covariance():
    likelihood = make_likelihood(NOISE, SHAPE, FLOAT64)
    covariance = NOISE.variance * np.kron(*(NOISE.correlation(n) for n in SHAPE))
    missed = (SIMULATION - EXPERIMENT).ravel()
    expected = missed @ np.linalg.solve(covariance, missed)
    assert float(likelihood.objective(SIMULATION, EXPERIMENT)) == pytest.approx(expected)
    white = make_likelihood(NoiseModel(4e-2), SHAPE, FLOAT64)
    residual = white.residual(SIMULATION, EXPERIMENT)
    np.testing.assert_allclose(residual, missed / 0.2, rtol=1e-12)  # simulation less experiment


def test_the_noise_of_bright_pixels_weighs_less():
    """Against the covariance that it is made of; the intensity is that of the smoothed image."""
    y, x = np.mgrid[0:60, 0:70] / 20.0
    image = 1.0 + 0.5 * np.sin(x + 1.0) * np.cos(y)
    noise = NoiseModel(2e-4, (0.4, 0.1), growth=0.8)
    likelihood = make_likelihood(noise, (60, 70), FLOAT64, image)
    deviation = noise.deviation(image)
    np.testing.assert_allclose(deviation**2, 1.0 + 0.8 * (image - 1.0), atol=5e-3)
    roots = [np.linalg.cholesky(noise.correlation(n)) for n in (60, 70)]
    draws = np.random.default_rng(5).normal(size=(200, 60, 70))
    drawn = (2e-4**0.5 * deviation) * (roots[0] @ draws @ roots[1].T)
    power = np.mean(np.asarray(likelihood.whiten(drawn)) ** 2, axis=0)
    for bright in (image > 1.25, image < 0.75):
        assert power[bright].mean() == pytest.approx(1.0, abs=0.02)
    unaware = np.mean(np.asarray(make_likelihood(noise, (60, 70), FLOAT64).whiten(drawn)) ** 2, 0)
    assert unaware[image > 1.25].mean() > 1.6 * unaware[image < 0.75].mean()
    covariance = np.kron(*(noise.correlation(n) for n in SHAPE))
    covariance *= noise.variance * np.outer(*(noise.deviation(image[:6, :9]).ravel(),) * 2)
    missed = (SIMULATION - EXPERIMENT).ravel()
    small = make_likelihood(noise, SHAPE, FLOAT64, image[:6, :9])
    expected = missed @ np.linalg.solve(covariance, missed)
    assert float(small.objective(SIMULATION, EXPERIMENT)) == pytest.approx(expected)


def test_a_misfit_does_not_grow_with_the_intensity():
    image = rng.normal(size=SHAPE)
    assert NoiseModel(1e-4, (), "misfit", growth=1.0).deviation(image) is None
    assert NoiseModel(1e-4).deviation(image) is None
    grows, does_not = NoiseModel(1e-4, growth=1.0), NoiseModel(1e-4)
    assert not same_weights(grows, does_not)
    assert grows.of_average(4).growth == 1.0
    with pytest.raises(InputError, match=r"found -0.1, expected 0 to 1"):
        NoiseModel(1e-4, growth=-0.1)


@pytest.mark.parametrize("rest", [None, 0.7])
def test_without_whitening_it_is_the_mean_square(rest):
    likelihood = mean_square(100, FLOAT64, rest)
    square = np.sum((SIMULATION - EXPERIMENT) ** 2) + (rest or 0.0) ** 2
    pair = np.stack([SIMULATION, EXPERIMENT])
    found = likelihood.objective(pair, EXPERIMENT)
    np.testing.assert_allclose(found, [square / 100, (rest or 0.0) ** 2 / 100], atol=1e-15)


@pytest.mark.parametrize(
    "likelihood", [make_likelihood(NOISE, SHAPE, FLOAT64), mean_square(54, FLOAT64, 0.7)]
)
def test_slopes_are_the_derivative_of_the_residual(likelihood):
    directions = jnp.asarray(rng.normal(size=(3, *SHAPE)))

    def residual(x):
        return likelihood.residual(SIMULATION + jnp.tensordot(x, directions, 1), EXPERIMENT)

    slopes = likelihood.slopes(directions)
    np.testing.assert_allclose(slopes, jax.jacfwd(residual)(jnp.zeros(3)), atol=1e-12)
    step = jnp.array([0.0, 1e-3, 0.0])
    numeric = (residual(step) - residual(-step)) / 2e-3
    np.testing.assert_allclose(slopes[:, 1], numeric, rtol=1e-8, atol=1e-10)


def test_what_weighs_the_pixels_says_what_it_is():
    images = rng.normal(size=(2, 16, 16))
    small, large = (
        0.01 * rng.normal(size=(2, 2, 16, 16)) * np.array([1.0, 9.0])[:, None, None, None]
    )
    given = NoiseModel(1e-4)
    assert pixel_weights(given, small, images) is given
    misfit = pixel_weights(given, large, images)
    assert (misfit.source, misfit.is_noise, misfit.lags) == ("misfit", False, ())
    assert misfit.variance >= np.mean(large**2)
    measured = pixel_weights(None, large, images)
    assert (measured.source, measured.is_noise) == ("residual", True)
    assert measured.variance == pytest.approx(np.mean(large**2))
    assert same_weights(given, NoiseModel(1.04e-4))
    assert not same_weights(given, NoiseModel(1e-4, (), "misfit"))
    assert not GUESSED_NOISE.is_noise
    with pytest.raises((ValueError, TypeError), match="guess"):  # TypeError: shapes checked
        NoiseModel(1e-4, (), "guess")  # pyright: ignore[reportArgumentType]


def test_errors_under_a_misfit_are_led_back_to_the_noise():
    image, residual = rng.normal(size=(2, 16, 16))
    noise = NoiseModel(0.25)
    under_noise = error_scale(noise, noise, image, residual, 4.0)
    assert (under_noise.noise, under_noise.misfit, under_noise.chi2) == (1.0, 2.0, 4.0)
    chi2 = np.mean(residual**2) / 0.25
    scale = error_scale(NoiseModel(1.0, (), "misfit"), noise, image, residual, 1.0)
    assert scale.noise == pytest.approx(0.5)  # a quarter of the variance
    assert scale.chi2 == pytest.approx(chi2)
    assert scale.misfit == pytest.approx(np.sqrt(max(1.0, chi2)))


def test_weights_follow_what_a_model_misses_where_images_have_their_contrast():
    rng = np.random.default_rng(4)
    noise = NoiseModel(1e-4, (0.5, 0.2))
    root = np.linalg.cholesky(noise.correlation(48) + 1e-12 * np.eye(48))
    y, x = np.mgrid[0:48, 0:48] / 48.0
    lattice = np.stack([np.cos(2 * np.pi * (k * x + 3 * y)) for k in (2, 3, 4, 5)])
    images = 1.0 + 0.2 * np.tile(lattice.sum(axis=0), (6, 1, 1))
    images += 0.02 * np.cos(2 * np.pi * np.stack([j * y for j in range(6)]) + 7 * x)
    residuals = 1e-2 * np.array([root @ rng.normal(size=(48, 48)) @ root.T for _ in range(6)])
    assert tempered(noise, residuals, images, 0) is noise
    # four times the variance at the lattice's frequencies, which is little of all pixels'
    spectrum = np.fft.fft2(residuals)
    at = np.abs(np.fft.fft2(images - 1.0)).mean(axis=0) > 1.0
    wrong = np.fft.ifft2(np.where(at, 2.0 * spectrum, spectrum)).real
    assert np.mean(wrong**2) < 1.2 * np.mean(residuals**2)
    found = tempered(noise, wrong, images, 0)
    assert found.source == "misfit"
    assert found.lags == noise.lags
    assert found.variance == pytest.approx(4e-4, rel=0.35)
    # what a fit has absorbed does not count as explained
    more = tempered(noise, wrong, images, int(at.sum()) // 4)
    assert more.variance > 1.2 * found.variance
    assert tempered(found, wrong, images, 0) is found
