"""Several means of different thickness share one set of imaging parameters."""

from importlib import resources

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.imaging.several_means import OWN, fit_several, means_table
from qhrtem_jax.inputs.columns import load_specimen
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.instrument import load_microscope
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX, default_vector
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.stages import run_settings

EXAMPLE = resources.files("qhrtem_jax").joinpath("example")
FRAME = Frame((44, 64), (0.0089, 0.0089))
NOISE = NoiseModel(1.8e-4)
FREE = ("A1_x", "A1_y", "tilt_x", "tilt_y", "C3", "focus_spread")
SLICES = (10, 19)
TRUTH = {"A1_x": 1.3, "A1_y": -0.7, "tilt_x": 1.2, "tilt_y": -0.9, "C3": -6500.0}
OWN_TRUTH = ({"C1": 5.2, "absorption": 0.02}, {"C1": 4.3, "absorption": 0.024})


def settings():
    free = {name: {"free": True} for name in (*FREE, *OWN, "thickness")}
    fixed = {
        name: {"free": False}
        for name in (
            *("image_spread", "semi_convergence", "C5"),
            *(f"{stem}_{axis}" for stem in ("A2", "B2", "S3", "A3") for axis in "xy"),
        )
    }
    content = {
        "stage": "imaging",
        "data": {"image": "image.npy", "sampling_nm": 0.0089},
        "specimen": {
            "structure": str(EXAMPLE.joinpath("SrTiO3_110.cel")),
            "scattering": "lobato",
            "grid": [36, 54],
        },
        "parameters": free | fixed | {"thickness": {"low": 6, "high": 24}},
    }
    return run_settings(content)


@pytest.fixture(scope="module")
def means():
    """(settings, images of two thicknesses with white noise, vectors they were made of)."""
    chosen = settings()
    microscope = load_microscope(chosen, Reader())
    vectors, images = [], []
    rng = np.random.default_rng(0)
    for slices, own in zip(SLICES, OWN_TRUTH, strict=True):
        vector = default_vector()
        for name, value in (TRUTH | own | {"thickness": slices}).items():
            vector[INDEX[name]] = value
        simulator = make_simulator(
            load_crystal(chosen, Reader()),
            microscope,
            FRAME,
            grid_shape=(36, 54),
            scattering="lobato",
            slices=slices,
        )
        clean = np.asarray(simulator.images(jnp.asarray(vector[None], simulator.dtype))[0])
        images.append(clean + NOISE.variance**0.5 * rng.normal(size=clean.shape))
        vectors.append(vector)
    return chosen, np.array(images), np.array(vectors)


def test_two_means_give_the_truth_with_smaller_errors_than_one(means):
    chosen, images, vectors = means
    space = parameter_space(chosen)
    start = vectors[0].copy()
    for name, amount in (("A1_x", 0.2), ("tilt_x", 0.5), ("C1", -0.2), ("C3", 400.0)):
        start[INDEX[name]] += amount
    one = fit_several(load_specimen(chosen, Reader()), space, images[:1], FRAME, NOISE, start)
    both = fit_several(load_specimen(chosen, Reader()), space, images, FRAME, NOISE, start)
    np.testing.assert_array_equal(both.vectors[:, INDEX["thickness"]], SLICES)
    assert both.noise.is_noise
    shared = [INDEX[name] for name in FREE]
    own = [INDEX[name] for name in OWN]
    for k in range(2):
        pull = (both.vectors[k] - vectors[k]) / both.std[k]
        assert np.max(np.abs(pull[shared + own])) < 4.0, pull[shared + own]
    np.testing.assert_allclose(both.vectors[0, shared], both.vectors[1, shared], rtol=1e-5)
    assert np.all(both.std[0, shared] < one.std[0, shared])
    assert set(both.shared) == set(FREE)
    table, scale = means_table(both, images, NOISE)
    assert [entry.thickness for entry in table] == list(SLICES)
    assert 0.9 < scale.chi2 < 1.1
    assert table[1].C1.std == pytest.approx(both.std[1, INDEX["C1"]] * scale.misfit)
