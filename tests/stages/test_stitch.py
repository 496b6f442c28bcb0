"""The joint refinement of a field with known truth, which abTEM simulated."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.physics.columns import Columns, columns_of
from tests import wedge
from tests.runs import computed, prepared
from tests.schema import check

REGIONS = 2
VACUUM = {"vacuum": [0, 0, 34, wedge.COLS], "noise_variance": None, "noise_correlation": None}


@dataclasses.dataclass(frozen=True)
class Refined:
    """Content of result.json, arrays, the truth of the regions, and the crystal's columns."""

    result: dict
    arrays: dict[str, np.ndarray]
    truth: list[dict]
    columns: Columns


@pytest.fixture(scope="module")
def refined(tmp_path_factory) -> Refined:
    """Two regions below vacuum, from imaging parameters that are somewhat off."""
    path = tmp_path_factory.mktemp("field")
    settings = wedge.settings(
        path,
        REGIONS,
        data=VACUUM,
        specimen={"max_cells": 5},
        reconstruct={"max_evaluations": 0},
        stitch={"sweeps": 1},
    )
    result, arrays = computed(prepared(settings), path / "run")
    columns = columns_of(load_crystal(settings, Reader()))
    return Refined(result, arrays, wedge.TRUTH["rois"][:REGIONS], columns)


def test_the_result_is_as_the_schema_says(refined):
    check(refined.result)


def test_what_is_left_over_adds_up(refined):
    left = refined.result["field"]["remains"]
    mse = refined.result["field"]["fit_refined"]["mse"]
    assert sum(part["power"] for part in left["parts"]) == pytest.approx(mse, rel=1e-5)
    found, arrays = refined.arrays["remains"].sum(axis=0), refined.arrays
    expected = arrays["simulation_refined"] - arrays["experiment"]
    assert np.mean(found != 0.0) > 0.2
    np.testing.assert_allclose(found[found != 0.0], expected[found != 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("large", r"stitch.block: found .*large.*, expected \[rows,cols\] or auto"),
        ([0, 3], r"stitch.block\[0\]: found 0"),
        ([3], "stitch.block: "),
    ],
)
def test_blocks_are_two_numbers_or_automatic(tmp_path, block, message):
    with pytest.raises(InputError, match=message):
        prepared(wedge.settings(tmp_path, REGIONS, data=VACUUM, stitch={"block": block}))


def test_numbers_of_atoms_are_found(refined):
    for roi, numbers in zip(
        refined.result["rois"], wedge.numbers(refined.columns, refined.truth), strict=True
    ):
        assert [c["n"] for c in roi["counts"]] == numbers.tolist()
        probability = [
            c["probability"][str(int(n))] for c, n in zip(roi["counts"], numbers, strict=True)
        ]
        assert np.mean(-np.log(probability)) < 0.05


def test_heights_and_exit_planes_are_found(refined):
    c1 = [roi["parameters"]["C1"] for roi in refined.result["rois"]]
    expected = [region["C1_roi"] for region in refined.truth]
    error = np.array([entry["value"] for entry in c1]) - expected
    assert np.std(error) < 0.1 * wedge.TRUTH["slice_nm"]
    # what is common to all regions is as sure as it says
    assert abs(np.mean(error)) < min(3.0 * c1[0]["std"], wedge.TRUTH["slice_nm"])
    first = np.array([min(s["first_slice"] for s in r["surfaces"]) for r in refined.result["rois"]])
    entrance = np.array([region["entrance_slice"] for region in refined.truth])
    np.testing.assert_array_equal(first - first.min(), entrance - entrance.min())


def test_exits_are_those_of_the_atoms_with_their_probabilities(refined):
    for roi in refined.result["rois"]:
        last = max(surface["last_slice"] for surface in roi["surfaces"])
        known = roi["exit_probability"]
        assert max(known, key=known.get) == str(last)
        assert sum(known.values()) == pytest.approx(1.0, abs=1e-3)


def test_the_model_explains_the_image_to_its_noise(refined):
    result, arrays = refined.result, refined.arrays
    merit = result["field"]["fit_refined"]
    assert result["noise"]["source"] == "vacuum"
    assert merit["chi2_reduced"] == pytest.approx(1.0, abs=0.1)
    assert merit["mse"] < 1.05 * wedge.TRUTH["noise"]["variance"]
    assert merit["mse"] < result["field"]["fit"]["mse"]
    inside = arrays["simulation_refined"][wedge.ROWS :] - arrays["experiment"][wedge.ROWS :]
    assert np.mean(inside**2) == pytest.approx(merit["mse"], rel=1e-4)
    whole = result["field"]["fit_refined_image"]
    outside = arrays["simulation_refined"] - arrays["experiment"]
    assert whole["mse"] == pytest.approx(np.mean(outside**2), rel=1e-4)
    assert whole["ncc_peak"] == pytest.approx(whole["ncc"], abs=1e-6)


def test_the_global_focus_is_that_of_the_deepest_exit(refined):
    """As it was when the image was taken."""
    deepest = max(refined.truth, key=lambda region: region["exit_slice"])
    found = refined.result["field"]["C1_global_refined_nm"]
    std = refined.result["parameters"]["C1"]["std"]
    assert abs(found - deepest["C1_roi"]) < min(3.0 * std, wedge.TRUTH["slice_nm"])


def test_titanium_is_displaced_as_it_was(refined):
    places = wedge.TRUTH["columns"]
    titanium = [places.index(p) for p in ([0.625, 0.75], [0.125, 0.75])]
    oxygen = [places.index(p) for p in ([0.375, 0.75], [0.875, 0.75])]
    for roi, region in zip(refined.result["rois"], refined.truth, strict=True):
        shifts = np.array(region["shift_pm"])
        expected = shifts[titanium].mean(axis=0) - shifts[oxygen].mean(axis=0)
        mean = roi["displacement"]["mean"]
        for axis, value in zip("xy", expected, strict=True):
            error = mean[f"d{axis}_pm"] - value
            assert abs(error) < 4.0 * mean[f"std_d{axis}_pm"]
            assert abs(error) < 3.0


def test_trends_are_of_what_the_regions_show_and_of_the_truth(refined):
    places = wedge.TRUTH["columns"]
    field, rois = refined.result["field"], refined.result["rois"]
    found = {trend["quantity"]: trend for trend in field["trends"]}
    assert len(found) == len(field["trends"])
    along_y = found["Ti against O, along y"]
    means = [roi["displacement"]["mean"] for roi in rois]
    assert along_y["values_pm"] == pytest.approx([mean["dy_pm"] for mean in means])
    assert along_y["std_pm"] == pytest.approx([mean["std_dy_pm"] for mean in means], rel=1e-6)
    assert along_y["thickness_nm"] == [roi["thickness_nm"] for roi in rois]
    # the vacuum lies above: the middle of the first row is half a cell away, and so on
    size = refined.columns.size_nm[1]
    assert along_y["edge_nm"] == pytest.approx([0.5 * size, 1.5 * size])
    assert along_y["over_thickness"] is None  # two regions make no line
    layer = found["distance of the layers at y = 0.250 and 0.750"]
    for k, region in enumerate(refined.truth):
        shifts = np.array(region["shift_pm"])[:, 1]
        lower = [places.index(place) for place in places if place[1] == 0.75]
        upper = [places.index(place) for place in places if place[1] == 0.25]
        error = layer["values_pm"][k] - (shifts[lower].mean() - shifts[upper].mean())
        assert abs(error) < 4.0 * layer["std_pm"][k]
