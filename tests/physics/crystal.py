"""A small perovskite cell for tests that need no outside file: SrTiO3 along [110]."""

import numpy as np

from qhrtem_jax.physics.camera import Frame, Mtf
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX, default_vector
from qhrtem_jax.physics.simulator import Simulator, make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal

A = 0.3905
_SITES = [
    ("Sr", 0.0, 0.0, 0.0),
    ("Sr", 0.5, 0.0, 0.5),
    ("Ti", 0.5, 0.5, 0.0),
    ("Ti", 0.0, 0.5, 0.5),
    ("O", 0.5, 0.0, 0.0),
    ("O", 0.0, 0.0, 0.5),
    ("O", 0.25, 0.5, 0.25),
    ("O", 0.75, 0.5, 0.75),
    ("O", 0.75, 0.5, 0.25),
    ("O", 0.25, 0.5, 0.75),
]
_B = {"Sr": 0.0062, "Ti": 0.0044, "O": 0.0072}
FRAME = Frame((40, 56), (0.0093, 0.0095), (0.011, 0.004))
MTF = Mtf(tuple(0.2 + 0.8 * np.exp(-2.0 * np.linspace(0.0, 1.0, 65))))


def crystal(shift_nm: tuple[float, float] = (0.0, 0.0)) -> Crystal:
    size = (A * 2**0.5, A, A * 2**0.5)
    positions = np.array([site[1:] for site in _SITES])
    positions[:, :2] += np.array(shift_nm) / size[:2]
    symbols = tuple(site[0] for site in _SITES)
    return Crystal(
        size, Atoms(symbols, positions, np.ones(10), np.array([_B[s] for s in symbols])), 4
    )


def simulator(shift_nm: tuple[float, float] = (0.0, 0.0), **options: object) -> Simulator:
    microscope = {
        key: options.pop(key)
        for key in (
            "aberration_convention",
            "coherence",
            "mtf",
            "source",
            "high_tension_kv",
            "compatibility",
        )
        if key in options
    }
    frame = options.pop("frame", FRAME)
    settings = {"grid_shape": (48, 64), "slices": 20, "precision": "float64"}
    return make_simulator(
        crystal(shift_nm), Microscope(**({"mtf": MTF} | microscope)), frame, **(settings | options)
    )


def vector(**values: float) -> np.ndarray:
    result = default_vector()
    result[INDEX["thickness"]] = 12
    for name, value in values.items():
        result[INDEX[name]] = value
    return result


EVERYTHING = {
    "absorption": 0.03,
    "tilt_x": 2.0,
    "tilt_y": -1.5,
    "image_spread": 0.017,
    "drift_x": 0.03,
    "drift_y": -0.02,
    "focus_spread": 3.2,
    "semi_convergence": 0.4,
    "A0_x": 0.013,
    "A0_y": -0.021,
    "C1": 5.5,
    "A1_x": 1.2,
    "A1_y": -0.8,
    "A2_x": -25.0,
    "A2_y": 30.0,
    "B2_x": 9.0,
    "B2_y": -7.0,
    "C3": -6000.0,
    "S3_x": 150.0,
    "S3_y": -200.0,
    "A3_x": 900.0,
    "A3_y": 400.0,
    "B4_x": 3e3,
    "B4_y": -2e3,
    "D4_x": 1e3,
    "D4_y": 4e3,
    "A4_x": -2e4,
    "A4_y": 3e4,
    "C5": 3e6,
    "S5_x": 1e5,
    "S5_y": -2e5,
    "R5_x": 2e5,
    "R5_y": 1e5,
    "A5_x": -5e5,
    "A5_y": 6e5,
}
"""A value away from zero for every continuous parameter (Haider's aberrations)."""
