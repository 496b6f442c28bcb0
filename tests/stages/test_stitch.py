"""The joint refinement of a field with known truth, which another multislice simulated."""

import json
from pathlib import Path

import numpy as np
import pytest

from qhrtem_jax.inputs.instrument import load_crystal
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.stages import RunSettings, run_settings
from tests import truth
from tests.runs import computed, prepared

ROWS, COLS = 45, 64
OFF = {"C1": 0.25, "A1_x": -0.15, "A1_y": 0.1, "tilt_x": 0.4, "absorption": 0.003}
"""How far the imaging parameters that are handed over are from the truth."""


def imaging(known: dict) -> dict:
    """The field's imaging parameters, at the plane of its deepest exit, moved by `OFF`."""
    vector = truth.field_vector(known)
    vector[INDEX["thickness"]] = 16
    for name, amount in OFF.items():
        vector[INDEX[name]] += amount
    return {"parameters": {n: {"value": float(vector[INDEX[n]])} for n in NAMES}}


def stitch_settings(bto_dir: Path, folder: Path, data: dict, specimen: dict) -> RunSettings:
    """Settings of the field and the imaging parameters that `folder` holds."""
    return run_settings(
        {
            "stage": "stitch",
            "data": {
                "image": str(folder / "field.npy"),
                "sampling_nm": 0.00887,
                "mtf": str(bto_dir / "MTF-US2k-300.mtf"),
                "mtf_scale": 1.068,
                "roi_shape": [ROWS, COLS],
            }
            | data,
            "specimen": {"structure": str(bto_dir / "BTO110.cel"), "grid": [50, 72]} | specimen,
            "microscope": {"aberration_convention": "drprobe"},
            "reconstruct": {"max_evaluations": 0},
            "imaging": {"result": str(folder / "imaging.json")},
        }
    )


@pytest.fixture(scope="module")
def refined(reference_dir, bto_dir, tmp_path_factory):
    """(result, arrays, truth of the regions, columns) of two regions below vacuum."""
    path = tmp_path_factory.mktemp("field")
    content = np.load(reference_dir / "synthetic_field.npz")
    known = json.loads(str(content["truth"][0]))
    np.save(path / "field.npy", content["noisy"][0][: 3 * ROWS, :COLS])
    (path / "imaging.json").write_text(json.dumps(imaging(known)))
    settings = stitch_settings(bto_dir, path, {"vacuum": [0, 0, 40, COLS]}, {"max_cells": 6})
    result, arrays = computed(prepared(settings), path / "run")
    rois = {tuple(roi["origin_px"]): roi for roi in known["rois"]}
    true = [rois[tuple(roi["origin_px"])] for roi in result["rois"]]
    return result, arrays, true, known, columns_of(load_crystal(settings, Reader()))


def test_numbers_of_atoms_are_found(refined):
    result, _, true, known, columns = refined
    chains = truth.chain_order(columns, known["column_order"])
    wrong, probability = [], []
    for roi, region in zip(result["rois"], true, strict=True):
        counts = np.zeros(8, dtype=int)
        counts[chains] = region["counts"]
        wrong += [abs(c["n"] - n) for c, n in zip(roi["counts"], counts, strict=True)]
        probability += [
            c["probability"].get(str(n), 0.0) for c, n in zip(roi["counts"], counts, strict=True)
        ]
    # two regions say less of the imaging parameters than sixteen: all of those are exact
    assert np.mean(np.array(wrong) == 0) >= 0.8
    assert max(wrong) <= 1
    assert min(probability) > 0.01, probability


def test_heights_and_exit_planes_are_found(refined):
    result, _, true, known, _ = refined
    c1 = np.array([roi["parameters"]["C1"]["value"] for roi in result["rois"]])
    error = (c1 - [region["C1_roi"] for region in true]) / known["slice_nm"]
    assert abs(np.mean(error)) < 1.5  # the common offset
    assert np.std(error) < 0.1
    first = np.array([min(s["first_slice"] for s in roi["surfaces"]) for roi in result["rois"]])
    entrance = np.array([region["entrance_slice"] for region in true])
    np.testing.assert_array_equal(first - first.min(), entrance - entrance.min())


def test_the_model_explains_the_image_to_its_noise(refined):
    result, arrays, _, _, _ = refined
    merit = result["field"]["fit_refined"]
    assert result["noise"]["source"] == "vacuum"
    assert merit["mse"] < 1.05 * result["noise"]["variance"]
    assert merit["mse"] < result["field"]["fit"]["mse"]
    inside = arrays["simulation_refined"][ROWS:] - arrays["experiment"][ROWS:]
    assert np.mean(inside**2) == pytest.approx(merit["mse"], rel=1e-4)


def test_titanium_is_displaced_as_it_was(refined):
    result, _, true, known, _ = refined
    places = np.round(known["position_order"], 3).tolist()
    titanium, oxygen = [places.index(p) for p in ([0.625, 0.75], [0.125, 0.75])], [4, 5]
    for roi, region in zip(result["rois"], true, strict=True):
        shifts = np.array(region["shift_pm"])
        expected = shifts[titanium].mean(axis=0) - shifts[oxygen].mean(axis=0)
        mean = roi["displacement"]["mean"]
        for axis, value in zip("xy", expected, strict=True):
            error = mean[f"d{axis}_pm"] - value
            assert abs(error) < 4.0 * mean[f"std_d{axis}_pm"]
            assert abs(error) < 3.0
