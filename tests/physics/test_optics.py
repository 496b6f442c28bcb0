"""Aberrations, coherence, absorption and camera against definitions written out a second time."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, ABERRATIONS
from qhrtem_jax.physics.camera import Frame, Mtf, make_camera
from qhrtem_jax.physics.coherence import make_optics
from qhrtem_jax.physics.multislice import transmission
from qhrtem_jax.physics.parameters import from_vector
from tests.physics import crystal
from tests.physics.test_simulator import image, rms

DOUBLE = jnp.dtype("float64")
WAVELENGTH = 1.96874889e-3

HAIDER = {
    "A0": lambda a, w: a * w.conjugate(),
    "C1": lambda a, w: a * w * w.conjugate() / 2,
    "A1": lambda a, w: a * w.conjugate() ** 2 / 2,
    "B2": lambda a, w: a * w**2 * w.conjugate(),
    "A2": lambda a, w: a * w.conjugate() ** 3 / 3,
    "C3": lambda a, w: a * (w * w.conjugate()) ** 2 / 4,
    "S3": lambda a, w: a * w**3 * w.conjugate(),
    "A3": lambda a, w: a * w.conjugate() ** 4 / 4,
    "B4": lambda a, w: a * w**3 * w.conjugate() ** 2,
    "D4": lambda a, w: a * w**4 * w.conjugate(),
    "A4": lambda a, w: a * w.conjugate() ** 5 / 5,
    "C5": lambda a, w: a * (w * w.conjugate()) ** 3 / 6,
    "S5": lambda a, w: a * w**4 * w.conjugate() ** 2,
    "R5": lambda a, w: a * w**5 * w.conjugate(),
    "A5": lambda a, w: a * w.conjugate() ** 6 / 6,
}
"""The sum of Uhlemann and Haider term by term: W is the real part of their sum."""

Q_Y, Q_X = np.array([-9.0, -2.0, 0.0, 3.0, 11.0]), np.array([-13.0, 0.0, 1.0, 7.0])


@pytest.fixture(scope="module")
def optics():
    return make_optics(Q_Y, Q_X, WAVELENGTH, DOUBLE)


def coefficients(name, value):
    vector = np.zeros(len(ABERRATION_NAMES))
    for component, part in zip(
        next(a for a in ABERRATIONS if a.name == name).components,
        (value.real, value.imag),
        strict=False,
    ):
        vector[ABERRATION_NAMES.index(component)] = part
    return jnp.asarray(vector)


def test_every_aberration_is_there():
    assert set(HAIDER) == {a.name for a in ABERRATIONS}


@pytest.mark.parametrize("name", HAIDER)
def test_chi_is_the_documented_sum(optics, name):
    value = 2.0 + 0.0j if name in ("C1", "C3", "C5") else 1.3 - 0.7j
    w = WAVELENGTH * (Q_X + 1j * Q_Y[:, None])
    expected = 2 * np.pi / WAVELENGTH * np.real(HAIDER[name](value, w))
    np.testing.assert_allclose(optics.chi(coefficients(name, value)), expected, rtol=1e-9)


@pytest.mark.parametrize("name", HAIDER)
def test_envelope_uses_the_gradient_of_the_documented_sum(optics, name):
    value = 2.0 + 0.0j if name in ("C1", "C3", "C5") else 1.3 - 0.7j
    value *= 1e-3 / (0.02 ** (max(a.power for a in ABERRATIONS if a.name == name) - 1))
    w = WAVELENGTH * (Q_X + 1j * Q_Y[:, None])
    step = 1e-7

    def wave_aberration(at):
        return np.real(HAIDER[name](value, at))

    slope = (
        (wave_aberration(w + step) - wave_aberration(w - step)) / (2 * step),
        (wave_aberration(w + 1j * step) - wave_aberration(w - 1j * step)) / (2 * step),
    )
    if name == "A0":  # an image shift does not damp
        slope = (np.zeros(w.shape), np.zeros(w.shape))
    sc = 3e-4
    exponent = (sc / 2) ** 2 * (2 * np.pi / WAVELENGTH) ** 2 * (slope[0] ** 2 + slope[1] ** 2)
    found = optics.spatial_envelope(coefficients(name, value), jnp.asarray(sc))
    np.testing.assert_allclose(-np.log(found), exponent, rtol=1e-5, atol=1e-9)


def test_semi_convergence_is_a_one_over_e_half_width():
    """An average over illumination angles drawn with sc / sqrt(2) rms per axis is the envelope."""
    simulator = crystal.simulator(image_shape=(36, 48))
    explicit = crystal.simulator(image_shape=(36, 48), coherence="explicit")
    values = {"C1": 25.0, "semi_convergence": 0.5, "focus_spread": 0.5, "thickness": 4}
    # For pure defocus a tilted illumination b shifts the image by C1 b: the cone is a blur of rms
    # C1 sc / sqrt(2) of the (nearly linear) image of a thin crystal.
    blur = 25.0 * 0.5e-3 / np.sqrt(2.0)
    base = values | {"semi_convergence": 1e-6, "image_spread": 0.012}
    blurred = image(simulator, **(base | {"image_spread": float(np.hypot(0.012, blur))}))
    cone = image(simulator, **(values | {"image_spread": 0.012}))
    as_rms = image(
        simulator,
        **(values | {"image_spread": 0.012, "semi_convergence": 0.5 * np.sqrt(2.0)}),
    )
    assert rms(cone, blurred) < 0.35 * rms(as_rms, blurred)
    averaged = image(explicit, **(values | {"image_spread": 0.012}))
    assert rms(averaged, cone) < 0.35 * rms(averaged, as_rms)


def test_quasi_coherent_and_focal_sum_agree_for_a_small_focus_spread():
    values = {"focus_spread": 0.3, "thickness": 6}
    quick = crystal.simulator(image_shape=(36, 48), coherence="quasi_coherent")
    full = crystal.simulator(image_shape=(36, 48))
    assert rms(image(quick, **values), image(full, **values)) < 1e-3
    wide = {"focus_spread": 5.0, "thickness": 6}
    assert rms(image(quick, **wide), image(full, **wide)) > 5e-3


def test_absorption_is_the_fraction_of_the_potential():
    phase = jnp.full((1, 8, 8), 0.4)
    modulus = jnp.abs(transmission(phase * (1 + 0.05j), jnp.ones((8, 8))))
    np.testing.assert_allclose(modulus, np.exp(-0.05 * 0.4), rtol=1e-12)


def spread_by(image_spread_nm, mtf_stretch=None):
    """Formation of an image that is spread, and nothing else."""
    vector = jnp.asarray(crystal.vector(image_spread=image_spread_nm))
    return from_vector(vector, mtf_stretch=mtf_stretch).formation


@pytest.mark.parametrize(("k_y", "k_x"), [(0, 3), (4, 0), (-5, 2)])
def test_camera_transfer_at_one_frequency(k_y, k_x):
    size, shape, frame = (0.4, 0.55), (40, 48), Frame((11, 13), (0.02, 0.017), (0.01, 0.003))
    mtf = Mtf(tuple(np.linspace(1.0, 0.2, 33)), scale=1.3)
    spectrum = np.zeros((40, 25), complex)
    spectrum[k_y, k_x] = 0.5 if k_x else 1.0
    q_y, q_x = k_y / 0.4, k_x / 0.55
    y, x = frame.positions()
    fringe = np.cos(2 * np.pi * (q_y * y[:, None] + q_x * x))
    found = make_camera(size, shape, frame, mtf, True, DOUBLE)(
        jnp.asarray(spectrum), spread_by(0.011)
    )
    nyquist_fraction = 1.3 * np.hypot(2 * q_y * 0.02, 2 * q_x * 0.017)
    expected = 1.0 - 0.8 * min(nyquist_fraction, 1.0)
    for q, pixel in ((q_y, 0.02), (q_x, 0.017)):
        expected *= np.sinc(q * pixel)  # sin(pi q s) / (pi q s)
    expected *= np.exp(-2 * np.pi**2 * 0.011**2 * (q_y**2 + q_x**2))
    np.testing.assert_allclose(found, expected * fringe, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("frame_transfer", [False, True])
def test_a_stretch_of_the_mtf_is_another_scale_along_one_axis(axis, frame_transfer):
    size, shape, sampling = (0.4, 0.55), (40, 48), (0.02, 0.017)
    values = np.exp(-3.0 * np.linspace(0.0, 1.0, 513))
    frame = Frame((44, 52), sampling)
    # a fringe along one axis cannot tell a stretch along that axis from another scale
    spectrum = np.zeros((40, 25), complex)
    for place in [(3, 0), (-3, 0)] if axis == 0 else [(0, 3)]:
        spectrum[place] = 0.5
    spread, stretch = jnp.asarray(0.011), 0.015

    def image(scale, stretches=None):
        mtf = Mtf(tuple(values), scale=scale)
        camera = make_camera(size, shape, frame, mtf, True, DOUBLE, frame_transfer)
        return camera(jnp.asarray(spectrum), spread_by(spread, stretches))

    plain, expected = image(1.1), image(1.1 * (1.0 + stretch))
    found = image(1.1, jnp.zeros(2).at[axis].set(stretch))
    across = image(1.1, jnp.zeros(2).at[1 - axis].set(stretch))
    changed = float(jnp.max(jnp.abs(expected - plain)))
    assert changed > 2e-3
    np.testing.assert_allclose(found, expected, atol=0.03 * changed)
    if not frame_transfer:  # on the frame the fringe's period is not whole
        np.testing.assert_allclose(across, plain, atol=1e-9)
