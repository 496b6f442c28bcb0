"""The field of the tests: a wedge of known truth that abTEM simulated.

`benchmarks/references/make_field.py` made it: vacuum, then four regions, one below the other.
"""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.field.model import FieldModel, JointState, field_model
from qhrtem_jax.field.simulate import first_state, snapped
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.parameters import INDEX, NAMES, default_vector
from qhrtem_jax.regions.model import RegionsModel, RegionState
from qhrtem_jax.stages import RunSettings, run_settings
from tests.truth import chain_order

DATA = Path(__file__).parent / "data"
TRUTH: dict[str, Any] = json.loads((DATA / "field.json").read_text("utf-8"))
ROWS, COLS = TRUTH["roi_px"]
REGIONS = len(TRUTH["rois"])
OFF = {"C1": 0.25, "A1_x": -0.15, "A1_y": 0.1, "tilt_x": 0.4, "absorption": 0.003}
"""How far the imaging parameters that are handed over are from the truth."""
FIXED = tuple(f"{stem}_{axis}" for stem in ("A2", "B2", "S3", "A3") for axis in "xy")
"""Parameters that are held at what is handed over: others show as well how fields are fitted, in
half of the time."""


def vector() -> np.ndarray:
    """The true imaging parameters, at the plane `exit_reference_slice`."""
    found = default_vector()
    for name, value in TRUTH["parameters"].items():
        found[INDEX[name]] = value
    return found


def handed_over() -> dict[str, Any]:
    """Content of a file of imaging parameters, moved from the truth by `OFF`."""
    moved = vector()
    for name, amount in OFF.items():
        moved[INDEX[name]] += amount
    return {"parameters": {n: {"value": float(moved[INDEX[n]])} for n in NAMES}}


def settings(folder: Path, regions: int = REGIONS, **groups: dict[str, Any]) -> RunSettings:
    """Settings of the first `regions` regions, with the files that they need in `folder`."""
    np.save(folder / "field.npy", np.load(DATA / "field.npy")[: (regions + 1) * ROWS])
    (folder / "imaging.json").write_text(json.dumps(handed_over()))
    example = resources.files("qhrtem_jax").joinpath("example")
    content: dict[str, Any] = {
        "stage": "stitch",
        "data": {
            "image": str(folder / "field.npy"),
            "sampling_nm": TRUTH["sampling_nm"],
            "mtf": str(example / "example.mtf"),
            "roi_shape": [ROWS, COLS],
            "rois": [roi["origin_px"] for roi in TRUTH["rois"][:regions]],
            "noise_variance": TRUTH["noise"]["variance"],
            "noise_correlation": TRUTH["noise"]["correlation_by_lag"],
        },
        "specimen": {
            "structure": str(example / "SrTiO3_110.cel"),
            "scattering": "lobato",
            "max_cells": 6,
            "grid": [30, 45],
            "grid_error": 1e-3,
        },
        "microscope": {"aberration_convention": "drprobe"},
        "parameters": {name: {"free": False} for name in FIXED},
        "imaging": {"result": str(folder / "imaging.json")},
    }
    for group, options in groups.items():
        content[group] = content.get(group, {}) | options
    return run_settings(content)


def numbers(columns: Columns, rois: list[dict[str, Any]]) -> np.ndarray:
    """True numbers of atoms of regions of the truth, in our order of chains, (regions, chains)."""
    names = [f"{symbol} {x} {y}" for symbol, x, y in TRUTH["chains"]]
    found = np.zeros((len(rois), len(names)))
    found[:, chain_order(columns, names)] = [roi["counts"] for roi in rois]
    return found


def at_truth(
    fit: RegionsModel, points: np.ndarray, rois: list[dict[str, Any]]
) -> tuple[FieldModel, JointState, np.ndarray]:
    """The field of some regions with their true numbers and heights, all else as in `points`; and
    these numbers."""
    points, true = points.copy(), numbers(fit.columns, rois)
    for k, roi in enumerate(rois):
        surplus = fit.sites.stack - roi["exit_slice"] + roi["entrance_slice"]
        points[k, INDEX["C1"]] = roi["C1_roi"] - surplus * TRUTH["slice_nm"]
    points[:, fit.layout.counts] = true
    model = field_model(fit)
    state = first_state(model, RegionState(points, points, fit.first_weights))
    return model, dataclasses.replace(state, settled=True, points=snapped(model, state)), true
