"""Reads the Dr. Probe references into our terms."""

import json
from pathlib import Path

import numpy as np

from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX, PARAMETERS
from qhrtem_jax.physics.simulator import Simulator, make_simulator

FRAME = Frame((45, 64), (0.00887, 0.00887))
GRID = (90, 128)

_DEGREE_IN_MRAD = 1e3 * np.pi / 180.0
_COLUMNS = {
    "abf": ("absorption", 1.0),
    "tilt_x_deg": ("tilt_x", _DEGREE_IN_MRAD),
    "tilt_y_deg": ("tilt_y", _DEGREE_IN_MRAD),
    "image_spread_nm": ("image_spread", 1.0),
    "nslices": ("thickness", 1.0),
    "focus_spread_nm": ("focus_spread", 1.0),
    "semi_conv_mrad": ("semi_convergence", 1.0),
}
_ABERRATIONS = ("A0", "C1", "A1", "B2", "A2", "C3", "S3", "A3", "B4", "D4", "A4", "C5")


def vectors(names: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Parameter vectors, in Dr. Probe's convention, of a table of the references."""
    result = np.zeros((len(params), len(PARAMETERS)))
    for column, name in enumerate(names):
        if name in _COLUMNS:
            ours, factor = _COLUMNS[name]
        else:  # such as A1x_nm
            stem = str(name).removesuffix("_nm")
            ours = stem if stem[-1].isdigit() else f"{stem[:-1]}_{stem[-1]}"
            factor = 1.0
        result[:, INDEX[ours]] = params[:, column] * factor
    return result


def vector_of_record(record: str) -> np.ndarray:
    """Parameter vector of a JSON record such as `vac_params_json`; thickness stays 0."""
    data = json.loads(record)
    vector = np.zeros(len(PARAMETERS))
    vector[INDEX["absorption"]] = data["abf"]
    tilt = data.get("tilt", data.get("tilt_deg"))
    vector[INDEX["tilt_x"]], vector[INDEX["tilt_y"]] = np.array(tilt) * _DEGREE_IN_MRAD
    vector[INDEX["image_spread"]] = data.get("vib", data.get("image_spread_nm"))
    vector[INDEX["focus_spread"]] = data.get("fs", data.get("fs_nm"))
    vector[INDEX["semi_convergence"]] = data.get("sc", data.get("sc_mrad"))
    vector[INDEX["thickness"]] = data.get("slices", 0)
    for index, (x, y) in data["aberr"].items():
        name = _ABERRATIONS[int(index)]
        if f"{name}_x" in INDEX:
            vector[INDEX[f"{name}_x"]], vector[INDEX[f"{name}_y"]] = x, y
        else:
            vector[INDEX[name]] = x
    return vector


def simulator(bto_dir: Path, **options: object) -> Simulator:
    """Simulator of the BaTiO3 cell on the references' grid and frame."""
    microscope = {
        "aberration_convention": "drprobe",
        "mtf": read_mtf(bto_dir / "MTF-US2k-300.mtf", 1.068),
    }
    for key in ("coherence", "compatibility", "source", "pixel_integration", "mtf"):
        if key in options:
            microscope[key] = options.pop(key)
    settings = {"grid_shape": GRID, "slices": 50, "precision": "float64", "batch": 4}
    return make_simulator(
        read_structure(bto_dir / "BTO110.cel", 4),
        Microscope(**microscope),
        FRAME,
        **(settings | options),
    )


def rms(difference: np.ndarray) -> np.ndarray:
    """Root mean square over the last two axes."""
    return np.sqrt(np.mean(np.abs(difference) ** 2, axis=(-2, -1)))
