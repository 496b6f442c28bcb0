"""Structure and counting against images of Dr. Probe with known truth."""

import dataclasses
import json

import numpy as np
import pytest

from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.stages import run_settings
from tests import drprobe, truth
from tests.runs import computed, prepared


def settings(stage, reference_dir, bto_dir, tmp_path, kind, index, **more):
    """Settings of a run on one synthetic experiment, its true imaging parameters handed over."""
    experiments = np.load(reference_dir / "drprobe_experiments.npz")
    np.save(tmp_path / "image.npy", experiments[f"{kind}_noisy"][index])
    record = str(experiments[f"{kind}_truth"][index])
    vector = drprobe.vector_of_record(record)
    vector[INDEX["thickness"]] = max(vector[INDEX["thickness"]], 20)
    table = {n: {"value": float(vector[INDEX[n]])} for n in NAMES}
    (tmp_path / "imaging.json").write_text(json.dumps({"parameters": table}))
    content = {
        "stage": stage,
        "data": {
            "image": str(tmp_path / "image.npy"),
            "sampling_nm": 0.00887,
            "mtf": str(bto_dir / "MTF-US2k-300.mtf"),
            "mtf_scale": 1.068,
            "roi_shape": [45, 64],
            "rois": [[0, 0]],
            "noise_variance": 1.8e-4,
            "noise_correlation": [0.51, 0.08],
        },
        "specimen": {"structure": str(bto_dir / "BTO110.cel"), "grid": [36, 50]},
        "microscope": {"aberration_convention": "drprobe"},
        "imaging": {"result": str(tmp_path / "imaging.json")},
    }
    return run_settings(content | more), experiments, json.loads(record)


@pytest.mark.parametrize(("mode", "bound"), [("fixed", 0.5), ("joint", 0.6)])
def test_positions_and_occupancies(reference_dir, bto_dir, tmp_path, mode, bound):
    chosen, experiments, known = settings(
        "structure",
        reference_dir,
        bto_dir,
        tmp_path,
        "positions",
        0,
        structure={"imaging": mode},
    )
    task = prepared(chosen)
    result, arrays = computed(task, RunFolder(tmp_path / "run"))
    columns = columns_of(load_crystal(chosen, Reader()))
    true = np.zeros((6, 2))
    true[truth.column_order(columns, known["columns_xy"])] = 1e3 * np.array(known["shift_nm"])
    if mode == "joint":
        true -= true.mean(axis=0)
    found = np.array([[c["dx_pm"], c["dy_pm"]] for c in result["columns"]])
    std = np.array([[c["std_dx_pm"], c["std_dy_pm"]] for c in result["columns"]])
    assert np.sqrt(np.mean((found - true) ** 2)) < bound
    assert 0.4 < np.sqrt(np.mean(((found - true) / std) ** 2)) < 1.6
    assert 0.8 < result["fit"]["chi2_reduced"] < 1.1
    assert arrays["simulation"].shape == (45, 64)
    if mode == "fixed":
        chains = truth.chain_order(columns, experiments["column_order"])
        occupancy = np.zeros(8)
        occupancy[chains] = known["occupancy"]
        for k, chain in enumerate(columns.chains):
            entry = result["columns"][chain.column]["occupancy"][chain.symbol]
            shared = sum(c.column == chain.column for c in columns.chains) > 1
            assert abs(entry["value"] - occupancy[k]) < (0.04 if shared else 0.025)


def test_numbers_of_atoms(reference_dir, bto_dir, tmp_path):
    chosen, experiments, known = settings(
        "reconstruct",
        reference_dir,
        bto_dir,
        tmp_path,
        "columns",
        2,
        reconstruct={"surface_rule": False, "max_evaluations": 16},
    )
    task = prepared(chosen)
    result, _ = computed(task, RunFolder(tmp_path / "run"))
    columns = columns_of(load_crystal(chosen, Reader()))
    true = np.zeros(8, dtype=int)
    true[truth.chain_order(columns, experiments["column_order"])] = known["counts"]
    (roi,) = result["rois"]
    assert [c["n"] for c in roi["counts"]] == true.tolist()
    assert all(c["probability"][str(n)] > 0.5 for c, n in zip(roi["counts"], true, strict=True))
    exit_c1 = known["aberr"]["1"][0]
    assert roi["parameters"]["C1"]["value"] == pytest.approx(exit_c1, abs=0.15)
    assert roi["parameters"]["absorption"]["value"] == pytest.approx(known["abf"], abs=0.005)
    assert roi["certified"]
    assert (tmp_path / "run" / "structures" / "ROI1.cel").is_file()


def test_a_wrong_scale_of_the_mtf_is_found(reference_dir, bto_dir, tmp_path):
    """The image was made with 1.068; the run is told 1.0, and that this is not well known."""
    chosen, *_ = settings(
        "reconstruct",
        reference_dir,
        bto_dir,
        tmp_path,
        "columns",
        2,
        reconstruct={"surface_rule": False, "max_evaluations": 0},
    )
    data = dataclasses.replace(chosen.data, mtf_scale=1.0, mtf_scale_std=0.05)
    task = prepared(dataclasses.replace(chosen, data=data))
    result, _ = computed(task, RunFolder(tmp_path / "run"))
    (roi,) = result["rois"]
    for axis in "yx":
        found = roi["mtf_scale"][axis]
        assert found["std"] < 0.03
        assert abs(found["value"] - 1.068) < 3.0 * found["std"]
