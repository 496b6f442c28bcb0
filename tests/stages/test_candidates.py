"""Which of two crystals the embedded example is an image of."""

import dataclasses
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.example import with_example
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.pipeline import IMAGING_FIRST, run
from qhrtem_jax.stages import RunSettings, run_settings
from qhrtem_jax.structure.candidates import FittedCandidate, compared, remarks, told_apart
from qhrtem_jax.structure.problem import check_one_cell
from qhrtem_jax.structure.result import Candidate
from qhrtem_jax.structure.settings import check_candidates
from tests.runs import Quiet
from tests.schema import check

SEARCHED = ("C1", "A1_y", "A0_x", "A0_y")


def example(name: str) -> Path:
    return Path(str(resources.files("qhrtem_jax").joinpath("example", name)))


def polar(path: Path) -> Path:
    """The example's crystal with titanium moved by 8 pm along y."""
    text = example("SrTiO3_110.cel").read_text("utf-8")
    moved, count = re.subn(
        r"(?m)^(\s*Ti\s+\S+\s+)(\S+)", lambda m: f"{m[1]}{float(m[2]) + 0.02:.6f}", text
    )
    assert count > 0
    path.write_text(moved, encoding="utf-8")
    return path


def settings(folder: Path, **groups) -> RunSettings:
    """Settings that compare the example's crystal with a polar one, most parameters known."""
    known, _ = with_example({"stage": "structure"}, ())
    truth = json.loads(example("truth.json").read_text("utf-8"))["parameters"]
    names = {n: {"free": False, "value": truth.get(n, 0.0)} for n in NAMES if n not in SEARCHED}
    crystals = [str(polar(folder / "polar.cel")), str(example("SrTiO3_110.cel"))]
    specimen = known["specimen"] | {"structure": None, "candidates": crystals}
    content = known | {
        "specimen": specimen | {"grid": [36, 54], "grid_error": 1e-3},
        "microscope": {"aberration_convention": "drprobe"},
        "parameters": names,
        "optimizer": {"name": "lm", "max_evaluations": 8, "starts": 1},
        "structure": {"rounds": 1},
    }
    for group, options in groups.items():
        content[group] = content.get(group, {}) | options
    return run_settings(content)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("candidates")
    terminal = Quiet()
    run(settings(path), RunFolder(path / "run"), terminal)
    return path / "run", terminal


def test_the_true_one_is_found(comparison):
    folder, terminal = comparison
    result = json.loads((folder / "result.json").read_text("utf-8"))
    check(result)
    polar, true = result["candidates"]
    assert true["file"] == "SrTiO3_110.cel"
    assert true["probability"] > 0.99
    assert polar["probability"] + true["probability"] == pytest.approx(1.0)
    assert true["log_evidence"] == 0.0 > polar["log_evidence"]
    assert polar["largest_shift_pm"] > true["largest_shift_pm"]
    assert result["fit"]["mse"] == pytest.approx(true["mse"])
    assert any("SrTiO3_110.cel is the most probable" in line for line in terminal.said)
    assert set(result["input"]["files"]) >= {
        "specimen.candidates[0]",
        "specimen.candidates[1]",
    }


def test_each_has_its_own_folder_and_the_page_leads_there(comparison):
    folder, _ = comparison
    page = (folder / "report.html").read_text("utf-8")
    for number in (1, 2):
        for part in ("", "imaging/"):
            assert (folder / f"candidate{number}/{part}result.json").is_file()
            assert f"candidate{number}/{part}report.html" in page
    arrays = np.load(folder / "arrays.npz")
    own = np.load(folder / "candidate1" / "arrays.npz")
    np.testing.assert_array_equal(arrays["candidates_difference"][0], own["difference"])


def test_imaging_goes_first_and_hands_its_parameters_over(comparison):
    folder, _ = comparison
    part = folder / "candidate2"
    found, first = (
        json.loads((part / p / "result.json").read_text("utf-8")) for p in ("", "imaging")
    )
    assert first["stage"] == "imaging"
    assert IMAGING_FIRST in found["warnings"]
    assert found["settings"]["imaging"]["result"] is None
    fixed = [name for name, entry in found["parameters"].items() if not entry["free"]]
    assert "A2_x" in fixed
    for name in fixed:
        assert found["parameters"][name]["value"] == first["parameters"][name]["value"]
    assert found["fit"]["mse"] < 1.02 * first["fit"]["mse"]


def test_what_is_done_is_kept(comparison):
    """A run that ended between two candidates goes on with the second."""
    folder, _ = comparison
    before = (folder / "result.json").read_text("utf-8")
    kept = (folder / "candidate1" / "result.json").stat().st_mtime_ns
    (folder / "result.json").unlink()
    again = dataclasses.replace(settings(folder.parent), resume=True)
    run(again, RunFolder(folder), Quiet())
    assert (folder / "candidate1" / "result.json").stat().st_mtime_ns == kept
    after = json.loads((folder / "result.json").read_text("utf-8"))
    assert after["candidates"] == json.loads(before)["candidates"]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"specimen": {"candidates": ["a.cel"]}}, "specimen.candidates: found ['a.cel']"),
        ({"specimen": {"structure": "a.cel"}}, "beside specimen.structure=a.cel"),
        ({"structure": {"imaging": "fixed"}}, "structure.imaging: found fixed"),
        ({"imaging": {"result": "a.json"}}, "imaging.result: found a.json"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, groups, said):
    with pytest.raises(InputError, match=re.escape(said)):
        check_candidates(settings(tmp_path, **groups))


def test_another_stage_says_which_one_compares(tmp_path):
    chosen = dataclasses.replace(settings(tmp_path), stage="imaging")
    with pytest.raises(InputError, match="stage structure compares candidates"):
        run(chosen, RunFolder(tmp_path / "run"), Quiet())
    assert not (tmp_path / "run").exists()


def test_what_does_not_decide_is_said():
    names = [f.name for f in dataclasses.fields(Candidate) if f.name not in ("file", "probability")]
    rest = dict.fromkeys(names, 0)
    some = [Candidate(f, p, **rest) for f, p in (("a", 0.7), ("b", 0.29), ("c", 0.01))]
    (said,) = remarks(some)
    assert said == "the image does not decide between a (0.70) and b (0.29)"
    even = [Candidate("a", 0.92, **rest), *(Candidate(f, 0.04, **rest) for f in "bc")]
    assert remarks(even) == ["the image does not decide between a (0.92) and b (0.04)"]
    assert remarks([Candidate("a", 0.96, **rest), Candidate("b", 0.04, **rest)]) == []


def fitted(file, position_std_nm, scale, mse):
    """A made-up fit of two columns whose shifts are `scale` times 1 and 2 pm."""
    rng = np.random.default_rng(3)
    bounds = 0.05  # nm, either way
    unit = 0.5 + scale * np.array([1e-3, 2e-3]) / (2.0 * bounds)
    arrays = {
        "difference": 0.01 * rng.normal(size=(6, 5)),
        "simulation": np.full((6, 5), 1.0 + 0.01 * scale),
        "jacobian": 40.0 * rng.normal(size=(2, 6, 5)),
        "unit": unit,
        "prior_mean": np.full(2, 0.5),
        "prior_std": np.full(2, position_std_nm / (2.0 * bounds)),
        "places": np.ones(2, dtype=bool),
    }
    result = {
        "fit": {"mse": mse},
        "noise": {"variance": 1e-4 * mse, "correlation": [], "source": "given"},
        "parameters": {"thickness": {"value": 9}},
        "settings": {"structure": {"position_std_nm": position_std_nm}},
        "columns": [{"dx_pm": scale, "dy_pm": 0.0}, {"dx_pm": 0.0, "dy_pm": 2.0 * scale}],
    }
    return FittedCandidate(file, "folder", result, arrays, {})


def test_the_one_whose_columns_stand_where_it_says_is_preferred():
    """Of two that explain the image alike, weighed by the noise of the better one."""
    near, far = compared([fitted("near", 0.01, 0.2, 1.0), fitted("far", 0.01, 4.0, 1.1)])
    assert near.probability > 0.9
    assert near.probability + far.probability == pytest.approx(1.0)
    assert far.log_evidence == pytest.approx(np.log(far.probability / near.probability))
    assert (near.largest_shift_pm, far.largest_shift_pm) == (0.4, 8.0)
    assert far.image_sigmas == pytest.approx(0.038 / 0.01)  # against the noise of the better one
    assert 0.3 <= near.position_std_pm < 2.0 < far.position_std_pm <= 10.0
    missed = fitted("near", 0.01, 0.2, 1.0).arrays["difference"]
    assert near.chi2_image == pytest.approx(np.sum(missed**2) / 1e-4, rel=0.2)


def test_several_means_and_raw_images_are_refused(tmp_path):
    several = settings(tmp_path, data={"average": [[[0, 0]], [[1, 0]]]})
    one = dataclasses.replace(several.specimen, candidates=None, structure="a.cel")
    with pytest.raises(InputError, match=r"data\.average: found 2 means"):
        check_one_cell(dataclasses.replace(several, specimen=one), Reader())
    raw = settings(
        tmp_path,
        data={**dict.fromkeys(("roi_shape", "average", "rois", "frame")), "dark": "dark.npy"},
    )
    crystal = dataclasses.replace(raw.specimen, candidates=None, structure="a.cel")
    with pytest.raises(InputError, match="an image that has to be prepared"):
        check_one_cell(dataclasses.replace(raw, specimen=crystal), Reader())


def test_files_of_one_name_are_told_apart_by_their_folders():
    assert told_apart(["x/a.cif", "y/b.cif"]) == ["a.cif", "b.cif"]
    assert told_apart(["x/a.cif", "y/a.cif"]) == ["x/a.cif", "y/a.cif"]
