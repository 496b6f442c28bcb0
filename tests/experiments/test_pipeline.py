"""The whole pipeline on the embedded example, interrupted and resumed."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import qhrtem_jax
from qhrtem_jax.io.structures import read_unit_cell
from qhrtem_jax.reporting.progress import ProgressLine
from tests import browser, crash
from tests.experiments.commands import finish
from tests.schema import check


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    return crash.imaging_parameters(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, truth) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    finish("pipeline", folder, truth, drawn=True)
    return folder


def test_every_stage_leaves_its_folder(whole):
    found = result(whole)
    assert set(found["stages"]) == {"structure", "reconstruct", "stitch"}
    for name in found["stages"].values():
        assert result(whole / name)["status"] == "done"
        assert (whole / name / "report.html").is_file()
    assert (whole / "stitch" / "structures" / "field.cif").is_file()
    arrays = np.load(whole / "stitch" / "arrays.npz")
    for name in ("simulation", "simulation_refined", "difference", "difference_mean_adjusted"):
        assert arrays[name].shape == arrays["experiment"].shape
        assert np.all(np.isfinite(arrays[name]))
    assert "NaN" not in (whole / "result.json").read_text()


def test_the_counted_crystal_is_the_one_that_was_simulated(whole):
    # abTEM's crystal: 18 slices of full columns, entrance at the first
    (roi,) = result(whole)["rois"]
    atoms = read_unit_cell(
        Path(str(resources.files("qhrtem_jax") / "example/SrTiO3_110.cel"))
    ).atoms
    first = np.floor(4.0 * atoms.positions[:, 2]).astype(int)
    for entry in roi["counts"]:
        here = np.array(atoms.symbols) == entry["species"]
        here &= np.all(np.isclose(atoms.positions[:, :2], (entry["x"], entry["y"])), axis=1)
        assert entry["n"] == sum(len(range(k, 18, 4)) for k in first[here])
        assert sum(entry["probability"].values()) == pytest.approx(1.0, abs=0.01)
    assert roi["thickness_nm"] == pytest.approx(18 * 0.3905 / 2**0.5 / 2, abs=0.15)
    refined = result(whole)["field"]["fit_refined"]
    assert refined["mse"] < 2.2e-4
    assert refined["ncc"] > 0.99


def test_python_opens_numbers_of_atoms_and_models(whole):
    found = qhrtem_jax.open_result(whole).stage("reconstruct")
    data = found.dataset()
    (roi,) = found.content["rois"]
    assert data["atoms"].dims == ("region", "chain")
    assert data["atoms"].values[0].tolist() == [c["n"] for c in roi["counts"]]
    assert str(data["chain"].values[0]).split()[0] == roi["counts"][0]["species"]
    assert float(data["thickness"].sel(region=roi["name"])) == pytest.approx(roi["thickness_nm"])
    assert data["experiment"].dims == ("region", "y", "x")
    atoms = found.atoms(roi["name"])
    assert len(atoms) == sum(c["n"] for c in roi["counts"])
    assert atoms.arrays["occupancy"].max() <= 1.0
    assert atoms.arrays["b_angstrom2"].min() > 0.0


class Interrupted(BaseException):
    """Ends a run from inside."""


def run_until(mark: Path, folder: Path, known: Path) -> None:
    """A run that ends when it reports something after it has written `mark`."""
    shown = ProgressLine.__call__

    def report(self, now):
        if mark.is_file():
            raise Interrupted
        shown(self, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressLine, "__call__", report)
        with pytest.raises(Interrupted):
            finish("pipeline", folder, known)


def test_every_result_is_as_the_schema_says(whole):
    for folder in (whole, *(whole / name for name in result(whole)["stages"])):
        check(result(folder))


def test_every_stage_has_a_page_of_its_own(whole):
    for name in result(whole)["stages"]:
        page = (whole / name / "report.html").read_text("utf-8")
        merit = result(whole / name)["fit"]["mse"]
        assert f"{merit:.6f}" in page or f"{merit:.6g}" in page
        figures = sorted((whole / name / "figures").glob("*.png"))
        assert len(figures) >= 3
        assert page.count("data:image/png;base64,") >= len(figures) + 4
        assert all(figure.with_suffix(".pdf").is_file() for figure in figures)


@pytest.mark.parametrize("name", ["structure", "reconstruct", "stitch", "."])
def test_pages_work_in_a_browser(whole, name):
    # the one region is chosen, and outlined whatever is shown
    browser.look_at(whole / name / "report.html", () if name == "." else ("arrows",))


def test_an_interrupted_pipeline_goes_on_to_the_same_result(whole, truth, tmp_path):
    """In the midst of its second stage (`test_safety` kills processes, `python -m tests.crash` in
    each of the stages)."""
    folder = tmp_path / "interrupted"
    run_until(folder / "reconstruct" / "history.csv", folder, truth)
    assert not (folder / "reconstruct" / "result.json").exists()
    finished = folder / "structure" / "result.json"
    written = finished.stat().st_mtime_ns
    finish("pipeline", folder, truth)
    assert finished.stat().st_mtime_ns == written
    one, other = result(whole), result(folder)
    assert [c["n"] for c in one["rois"][0]["counts"]] == [
        c["n"] for c in other["rois"][0]["counts"]
    ]
    for name, entry in one["parameters"].items():
        assert other["parameters"][name]["value"] == pytest.approx(
            entry["value"], rel=1e-3, abs=1e-6
        )
    assert one["fit"]["mse"] == pytest.approx(other["fit"]["mse"], rel=1e-3)
