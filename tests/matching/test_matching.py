"""Noise; the objective's profiling."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.matching.band import band_of
from qhrtem_jax.matching.noise import NoiseModel, effective_variance, measure_noise
from qhrtem_jax.matching.objective import in_band, make_objective
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX
from tests.physics import crystal


def correlated(rng, shape, variance=2e-4):
    kernel = np.array([0.1, 0.34, 1.0, 0.34, 0.1])
    kernel /= np.linalg.norm(kernel)
    noise = rng.normal(size=(shape[0] + 4, shape[1] + 4))
    for axis in (0, 1):
        noise = np.apply_along_axis(np.convolve, axis, noise, kernel, mode="valid")
    return np.sqrt(variance) * noise


def test_noise_is_measured_with_its_correlation():
    patch = 1.0 + correlated(np.random.default_rng(1), (200, 200))
    patch += np.linspace(0, 0.05, 200)  # uneven illumination
    noise = measure_noise(patch)
    assert noise.variance == pytest.approx(2e-4, rel=0.05)
    np.testing.assert_allclose(noise.lags[:2], [0.598, 0.252], atol=0.03)
    assert noise.of_average(4).variance == pytest.approx(noise.variance / 4)


def test_correlation_matrix_predicts_the_variance_of_a_mean():
    rng = np.random.default_rng(2)
    noise = NoiseModel(2e-4, (0.598, 0.252, 0.054, 0.008))
    weights = rng.normal(size=(12, 15))
    matrix = noise.correlation(12), noise.correlation(15)
    predicted = 2e-4 * np.sum(weights * (matrix[0] @ weights @ matrix[1]))
    sums = [np.sum(weights * correlated(rng, (12, 15))) for _ in range(3000)]
    assert np.var(sums) == pytest.approx(predicted, rel=0.1)


def test_slow_structure_sees_more_of_correlated_noise():
    y, _ = np.mgrid[0:64, 0:64]
    noise = NoiseModel(1e-4, (0.6, 0.25))
    slow = effective_variance(noise, np.sin(2 * np.pi * y / 64))
    fast = effective_variance(noise, np.sin(2 * np.pi * y * 24 / 64))
    assert slow > 1e-4 > fast


def test_impossible_noise_is_refused():
    with pytest.raises(InputError, match="variance of the noise"):
        NoiseModel(0.0)
    with pytest.raises(InputError, match="constant"):
        measure_noise(np.ones((20, 20)))


@pytest.mark.parametrize("lags", [(0.9,), (-0.7,), (0.5, -0.5), (0.0, 0.0, 0.8)])
def test_a_correlation_that_none_has_is_refused_if_given_and_remarked_if_measured(lags):
    with pytest.raises(InputError, match=r"correlation of the noise: .* power is negative"):
        NoiseModel(1e-4, lags)
    measured = NoiseModel(1e-4, lags, "vacuum")
    assert measured.remark is not None
    assert "vacuum has negative power" in measured.remark
    assert np.linalg.eigvalsh(measured.correlation(20)).min() > -1e-12


@pytest.mark.parametrize("lags", [(), (0.5,), (0.598, 0.252, 0.054, 0.008), (0.67, 0.33), (-0.5,)])
def test_a_correlation_that_noise_has_is_taken(lags):
    assert NoiseModel(1e-4, lags).remark is None
    # a sum of neighbouring white pixels has such a correlation: its matrix needs no repair
    toeplitz = np.zeros((30, 30))
    for k, rho in enumerate((1.0, *lags)):
        toeplitz += rho * (np.eye(30, k=k) + (np.eye(30, k=-k) if k else 0.0))
    np.testing.assert_allclose(NoiseModel(1e-4, lags).correlation(30), toeplitz, atol=5e-3)


@pytest.fixture(scope="module")
def simulator():
    return crystal.simulator(image_shape=(36, 48))


@pytest.mark.parametrize("compatibility", ["none", "drprobe"])
def test_profiling_finds_thickness_and_shift(compatibility):
    simulator = crystal.simulator(image_shape=(36, 48), compatibility=compatibility)
    truth = crystal.vector(C1=6.0, A1_x=1.0, tilt_x=2.0, A0_x=0.0187, A0_y=-0.0311, thickness=13)
    experiment = simulator.image(jnp.asarray(truth))
    objective = make_objective(simulator, experiment, thickness_range=(2, 20))
    start = crystal.vector(C1=6.0, A1_x=1.0, tilt_x=2.0, A0_x=0.05, A0_y=0.05, thickness=3)
    found = objective.evaluate(jnp.asarray(start)[None])
    assert float(found.vector[0, INDEX["thickness"]]) == 13
    np.testing.assert_allclose(
        found.vector[0, [INDEX["A0_x"], INDEX["A0_y"]]], [0.0187, -0.0311], atol=3e-4
    )
    assert float(found.mse[0]) < 1e-5
    # what is reported is what the filled vector gives
    again = simulator.image(found.vector[0])
    # (Dr. Probe's way filters the frame, so frequencies that the image grid folds come through)
    bound = 1e-9 if compatibility == "none" else 3e-5
    np.testing.assert_allclose(found.image[0], again, atol=bound)


def test_profiled_shift_stays_in_its_bounds(simulator):
    experiment = simulator.image(jnp.asarray(crystal.vector(A0_x=0.04, A0_y=0.0)))
    objective = make_objective(
        simulator,
        experiment,
        thickness_range=(12, 12),
        shift_range=((-0.01, 0.02), (-0.01, 0.01)),
    )
    found = objective.evaluate(jnp.asarray(crystal.vector())[None])
    assert float(found.vector[0, INDEX["A0_x"]]) == pytest.approx(0.02)


def test_without_profiling_the_vector_is_taken_as_it_is(simulator):
    experiment = simulator.image(jnp.asarray(crystal.vector(C1=6.0, thickness=13)))
    objective = make_objective(simulator, experiment, thickness_range=(2, 20), profile=())
    vectors = np.stack([crystal.vector(C1=6.0, thickness=t) for t in (12, 13)])
    found = objective.evaluate(jnp.asarray(vectors))
    np.testing.assert_array_equal(found.vector, vectors)
    assert float(found.mse[1]) == pytest.approx(0.0, abs=1e-12)
    assert float(found.mse[0]) > 1e-5


def test_thickness_prior_moves_the_choice(simulator):
    experiment = simulator.image(jnp.asarray(crystal.vector(thickness=13)))
    penalty = np.where(np.arange(2, 21) == 12, 0.0, 1.0)
    objective = make_objective(
        simulator, experiment, thickness_range=(2, 20), thickness_penalty=penalty
    )
    found = objective.evaluate(jnp.asarray(crystal.vector())[None])
    assert float(found.vector[0, INDEX["thickness"]]) == 12


def test_a_large_image_is_compared_in_its_band_exactly():
    """Coordinates in the band say the same as all pixels: errors, shifts, residuals, slopes."""
    from qhrtem_jax.refine.jacobian import image_and_jacobian

    simulator = crystal.simulator(frame=Frame((300, 260), (0.0093, 0.0095)))
    vector = crystal.vector()
    rng = np.random.default_rng(2)
    image = np.asarray(simulator.image(jnp.asarray(vector)))
    experiment = jnp.asarray(np.roll(image, (1, 2), (0, 1)) + 0.02 * rng.normal(size=image.shape))
    plain = make_objective(simulator, experiment, thickness_range=(1, simulator.slices))
    band = band_of(simulator)
    assert band is not None
    assert band.size < image.size / 10
    short = in_band(plain, band)
    vectors = np.tile(vector, (2, 1))
    vectors[1, INDEX["C1"]] += 1.0
    a, b = (o.evaluate(jnp.asarray(vectors, plain.experiment.dtype)) for o in (plain, short))
    np.testing.assert_allclose(a.mse, b.mse, rtol=1e-4)
    np.testing.assert_allclose(a.vector, b.vector, rtol=1e-4, atol=1e-4)
    residuals = short.likelihood.residual(b.image, short.experiment)
    np.testing.assert_allclose(jnp.sum(residuals**2, 1), a.mse, rtol=1e-4)
    names = ("C1", "tilt_x", "image_spread")
    both = [
        image_and_jacobian(o.simulator, jnp.asarray(vector, plain.experiment.dtype), names)
        for o in (plain, short)
    ]
    slopes = [o.likelihood.slopes(j) for o, (_, j) in zip((plain, short), both, strict=True)]
    missed = [
        o.likelihood.residual(i, o.experiment)
        for o, (i, _) in zip((plain, short), both, strict=True)
    ]
    full, few = (np.asarray(s.T @ s) for s in slopes)
    np.testing.assert_allclose(full, few, rtol=1e-3, atol=1e-4 * np.abs(full).max())
    full, few = (np.asarray(s.T @ r) for s, r in zip(slopes, missed, strict=True))
    np.testing.assert_allclose(full, few, rtol=1e-3, atol=1e-3 * np.abs(full).max())


def test_small_images_keep_their_pixels():
    assert band_of(crystal.simulator()) is None


def test_a_long_correlation_matrix_is_that_of_its_lags():
    noise = NoiseModel(1.0, (0.4, 0.1))
    large = noise.correlation(600)
    np.testing.assert_allclose(large[:100, :100], noise.correlation(100), atol=1e-12)
    # lags that no noise has are still made positive
    values = np.linalg.eigvalsh(NoiseModel(1.0, (0.9,), "vacuum").correlation(600))
    assert values.min() > -1e-9
