"""Signs, symmetries, gradients and batching of the simulator."""

import statistics

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, convention_factors
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.parameters import ABERRATION_SLICE, INDEX, NAMES, from_vector
from qhrtem_jax.physics.simulator import VACUUM
from tests.physics import crystal


def image(simulator, **values):
    return np.asarray(simulator.images(crystal.vector(**values)[None]))[0]


def rms(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.fixture(scope="module")
def simulator():
    return crystal.simulator(image_shape=(36, 48))


def test_vacuum_intensity_is_one():
    vacuum = crystal.simulator(sequence=[VACUUM] * 5, slices=None)
    np.testing.assert_allclose(image(vacuum, thickness=5), 1.0, atol=1e-12)


def test_absorption_takes_what_its_share_of_the_potential_takes():
    """To first order the mean intensity falls by 2 a sum_slices <phase |wave|^2>."""
    slices, simulator = 12, crystal.simulator()
    vectors = [crystal.vector(absorption=0.0, thickness=t) for t in range(1, slices)]
    before = np.abs(np.asarray(jax.vmap(simulator.exit_wave)(jnp.asarray(np.stack(vectors))))) ** 2
    before = np.concatenate([np.ones((1, *before.shape[1:])), before])
    phases = np.asarray(simulator.phases)[np.asarray(simulator.sequence)[:slices]]
    expected = -2.0 * np.sum(np.mean(phases * before, axis=(1, 2)))

    def mean(absorption):
        vector = crystal.vector(absorption=absorption, thickness=slices)
        return np.mean(np.abs(simulator.exit_wave(jnp.asarray(vector))) ** 2)

    slope = (mean(1e-3) - mean(-1e-3)) / 2e-3
    assert slope == pytest.approx(expected, rel=0.01)


def test_positive_A0_moves_the_image_to_larger_x_and_y(simulator):
    dx, dy = 0.021, -0.013
    moved = crystal.simulator(shift_nm=(dx, dy), image_shape=(36, 48))
    shifted = image(simulator, A0_x=dx, A0_y=dy, C1=4.0)
    assert rms(shifted, image(moved, C1=4.0)) < 1e-6
    assert rms(shifted, image(simulator, C1=4.0)) > 0.02


def test_frame_origin_and_sampling_place_the_pixels():
    size = (crystal.A, crystal.A * 2**0.5)
    coarse = Frame((20, 28), (size[0] / 20, size[1] / 28))
    shifted = Frame((20, 28), coarse.sampling_nm, coarse.sampling_nm)
    first = image(crystal.simulator(frame=coarse, mtf=None), A1_y=1.0)
    second = image(crystal.simulator(frame=shifted, mtf=None), A1_y=1.0)
    np.testing.assert_allclose(second, np.roll(first, (-1, -1), axis=(0, 1)), atol=1e-6)


def test_tilt_moves_the_wave_against_its_sign():
    """Vacuum of thickness d behind the crystal moves the wave by -tilt d (and defocuses by d)."""
    sequence = [k % 4 for k in range(12)]
    plain = crystal.simulator(sequence=sequence, slices=None)
    longer = crystal.simulator(sequence=sequence + [VACUUM] * 4, slices=None)
    d = 4 * plain.propagation.slice_nm
    tilt = {"tilt_x": 6.0, "tilt_y": -4.0, "focus_spread": 2.5}
    behind = image(longer, thickness=16, C1=4.0, **tilt)
    equal = image(plain, thickness=12, C1=4.0 + d, A0_x=-6e-3 * d, A0_y=4e-3 * d, **tilt)
    wrong_shift = image(plain, thickness=12, C1=4.0 + d, A0_x=6e-3 * d, A0_y=-4e-3 * d, **tilt)
    wrong_focus = image(plain, thickness=12, C1=4.0 - d, A0_x=-6e-3 * d, A0_y=4e-3 * d, **tilt)
    assert rms(behind, equal) < 5e-4
    assert rms(behind, wrong_shift) > 4e-3
    assert rms(behind, wrong_focus) > 4e-3


def test_vacuum_before_the_entrance_changes_nothing():
    sequence = [k % 4 for k in range(12)]
    plain = crystal.simulator(sequence=sequence, slices=None)
    before = crystal.simulator(sequence=[VACUUM] * 4 + sequence, slices=None)
    values = {"tilt_x": 6.0, "A1_x": 2.0}
    assert rms(image(plain, thickness=12, **values), image(before, thickness=16, **values)) < 1e-9


CONTINUOUS = [name for name in NAMES if name != "thickness"]


@pytest.fixture(scope="module")
def derivatives(simulator):
    """(forward, reverse, central differences) of a weighted sum of pixels, per parameter."""
    vector = crystal.vector(**crystal.EVERYTHING)
    weights = np.random.default_rng(1).normal(size=crystal.FRAME.shape)
    steps = np.maximum(np.abs(vector), 1e-3) * 1e-5

    def scalar(v):
        return jnp.sum(weights * simulator.image(v))

    forward = jax.jit(jax.jacfwd(scalar))(jnp.asarray(vector))
    reverse = jax.jit(jax.grad(scalar))(jnp.asarray(vector))
    plus = simulator.images(vector + np.diag(steps))
    minus = simulator.images(vector - np.diag(steps))
    numeric = np.sum(weights * np.asarray(plus - minus), axis=(1, 2)) / (2 * steps)
    return vector, np.asarray(forward), np.asarray(reverse), numeric


@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradient_agrees_with_finite_differences(derivatives, name):
    vector, forward, reverse, numeric = derivatives
    index = INDEX[name]
    assert abs(numeric[index] * vector[index]) > 1e-6, "the parameter must matter"
    np.testing.assert_allclose(forward[index], numeric[index], rtol=3e-5)
    np.testing.assert_allclose(reverse[index], numeric[index], rtol=3e-5)


def test_gradient_at_zero_tilt_is_finite(simulator):
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(simulator.image(v) ** 2)))(
        jnp.asarray(crystal.vector())
    )
    assert np.all(np.isfinite(gradient))


def test_float32_agrees_with_float64(simulator):
    single = crystal.simulator(image_shape=(36, 48), precision="float32")
    vector = crystal.vector(**crystal.EVERYTHING)[None]
    low = single.images(vector.astype("float32"))
    assert low.dtype == jnp.float32
    assert rms(np.asarray(low), np.asarray(simulator.images(vector))) < 3e-6


def test_batches_agree_with_single_images_and_compile_once(simulator):
    rng = np.random.default_rng(0)
    vectors = crystal.vector() + np.zeros((7, 1))
    vectors[:, INDEX["C1"]] = rng.uniform(2, 8, 7)
    vectors[:, INDEX["thickness"]] = rng.integers(1, 20, 7)
    traces = []

    @eqx.filter_jit
    def counted(v):
        traces.append(1)
        return simulator.images(v)

    batch = np.asarray(counted(vectors))
    for k in range(7):
        single = np.asarray(simulator.image(jnp.asarray(vectors[k])))
        np.testing.assert_allclose(batch[k], single, atol=1e-10)
    counted(vectors + 0.5)
    assert len(traces) == 1


@pytest.mark.parametrize("convention", ["drprobe", "krivanek"])
def test_conventions_describe_the_same_image(simulator, convention):
    vector = crystal.vector(**crystal.EVERYTHING)
    converted = vector.copy()
    converted[ABERRATION_SLICE] /= convention_factors(convention)
    other = crystal.simulator(image_shape=(36, 48), aberration_convention=convention)
    np.testing.assert_allclose(
        other.images(converted[None]), simulator.images(vector[None]), atol=1e-10
    )


def test_drprobe_convention_is_the_documented_sum():
    """(1/m) |w|^(m-n) Re[conj(a) w^n] term by term, for the terms that differ from Haider's."""
    factors = dict(zip(ABERRATION_NAMES, convention_factors("drprobe"), strict=True))
    expected = {"B2": 3, "S3": 4, "B4": 5, "D4": 5, "S5": 6, "R5": 6}
    for name, m in expected.items():
        assert factors[f"{name}_x"] == pytest.approx(1 / m)
        assert factors[f"{name}_y"] == pytest.approx(-1 / m)
    assert all(factors[n] == 1.0 for n in ABERRATION_NAMES if n[:2] not in expected)


def test_focal_sampling_is_converged(simulator):
    """The default against many foci, up to the widest focus spread of the default bounds."""
    dense = crystal.simulator(image_shape=(36, 48), source=SourceSampling(61, 4.0))
    for spread, bound in ((2.0, 1e-4), (4.0, 1e-4), (6.0, 4e-4)):
        values = crystal.EVERYTHING | {"focus_spread": spread}
        assert rms(image(simulator, **values), image(dense, **values)) < bound


def test_widths_are_one_over_e_and_rms(simulator):
    """An average over foci drawn by their quantiles: no factor sqrt(2) can hide."""
    quantiles = statistics.NormalDist()
    normal = np.array([quantiles.inv_cdf((k + 0.5) / 400) for k in range(400)])
    base = {"focus_spread": 1e-3, "semi_convergence": 1e-6, "C1": 6.0, "A1_x": 1.0}
    foci = 6.0 + 3.0 / np.sqrt(2.0) * normal  # 1/e half-width 3 is rms 3/sqrt(2)
    vectors = np.stack([crystal.vector(**(base | {"C1": f})) for f in foci])
    average = np.asarray(simulator.images(vectors)).mean(0)
    wide = image(simulator, **(base | {"focus_spread": 3.0}))
    as_rms = image(simulator, **(base | {"focus_spread": 3.0 * np.sqrt(2.0)}))
    assert rms(average, wide) < 0.2 * rms(average, as_rms)


def test_image_spread_is_the_rms_of_a_gaussian(simulator):
    """Blurring by sampled shifts of standard deviation v is the image spread v."""
    rng = np.random.default_rng(4)
    shifts = 0.02 * rng.normal(size=(600, 2))
    vectors = np.stack([crystal.vector(image_spread=1e-6, A0_x=x, A0_y=y) for x, y in shifts])
    average = np.asarray(simulator.images(vectors)).mean(0)
    right = rms(average, image(simulator, image_spread=0.02))
    assert right < 0.25 * rms(average, image(simulator, image_spread=0.02 * np.sqrt(2)))


def test_drift_averages_along_its_way(simulator):
    """Images shifted evenly along the way, averaged, are the image that drifts; which way along it
    does not matter, which direction does."""
    way = np.array([0.07, 0.04])
    steps = (np.arange(64) + 0.5) / 64 - 0.5
    vectors = np.stack([crystal.vector(A0_x=x, A0_y=y) for x, y in steps[:, None] * way])
    average = np.asarray(simulator.images(vectors)).mean(0)
    drifting = image(simulator, drift_x=way[0], drift_y=way[1])
    assert rms(average, image(simulator)) > 0.01
    np.testing.assert_allclose(drifting, average, atol=2e-4 * np.std(average))
    np.testing.assert_allclose(drifting, image(simulator, drift_x=-way[0], drift_y=-way[1]))
    assert rms(average, image(simulator, drift_x=way[0], drift_y=-way[1])) > 0.01


def test_mtf_is_read_at_the_frequency_of_the_pixels():
    """A one-beam fringe of known frequency keeps the MTF's share of its amplitude."""
    camera = crystal.simulator(mtf=crystal.MTF).formation.camera
    bare = crystal.simulator(mtf=None).formation.camera
    sharp = from_vector(jnp.asarray(crystal.vector(image_spread=0.0))).formation
    rows, half = 48, 33
    for k_y, k_x in ((0, 2), (3, 0), (2, 5)):
        spectrum = np.zeros((rows, half), complex)
        spectrum[k_y, k_x] = 1.0
        q_x, q_y = k_x / (crystal.A * 2**0.5), k_y / crystal.A
        nyquist_fraction = np.hypot(2 * q_x * 0.0095, 2 * q_y * 0.0093)
        expected = 0.2 + 0.8 * np.exp(-2.0 * nyquist_fraction)
        ratio = np.asarray(camera(jnp.asarray(spectrum), sharp)) / np.asarray(
            bare(jnp.asarray(spectrum), sharp)
        )
        np.testing.assert_allclose(ratio, expected, rtol=1e-3)


def test_angles_are_given_in_milliradians_and_lengths_in_nanometres():
    given = {"tilt_x": 2.0, "tilt_y": -1.5, "semi_convergence": 0.4, "image_spread": 0.017}
    lengths = {"focus_spread": 3.2, "C1": 5.5, "A1_y": -0.8}
    typed = from_vector(jnp.asarray(crystal.vector(**given, **lengths)))
    np.testing.assert_allclose(typed.tilt_rad, [2.0e-3, -1.5e-3], rtol=1e-12)
    formation = typed.formation
    assert float(formation.semi_convergence_rad) == pytest.approx(0.4e-3, rel=1e-12)
    assert float(formation.image_spread_nm) == 0.017
    assert float(formation.focus_spread_nm) == 3.2
    for name in ("C1", "A1_y"):
        assert float(formation.aberrations_nm[ABERRATION_NAMES.index(name)]) == lengths[name]


def test_zero_high_tension_is_refused():
    with pytest.raises(InputError, match="high tension"):
        crystal.simulator(high_tension_kv=0.0)


@pytest.mark.parametrize("thickness", [0.0, 20.6, 1e9, -3.0, np.nan, np.inf])
def test_a_thickness_beyond_the_slices_is_refused_never_clipped(thickness):
    simulator = crystal.simulator()
    vectors = np.stack([crystal.vector(), crystal.vector(thickness=thickness)])
    for compute in (
        simulator.images,
        lambda v: simulator.exit_wave(v[1]),
        lambda v: simulator.image(v[1]),
    ):
        with pytest.raises(InputError, match="expected 1 to 20"):
            compute(jnp.asarray(vectors))
    traced = np.asarray(jax.jit(lambda v: simulator.images(v))(jnp.asarray(vectors)))
    assert np.all(np.isfinite(traced[0]))
    assert np.all(np.isnan(traced[1]))
