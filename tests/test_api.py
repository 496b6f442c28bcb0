"""Runs and results from Python, without the command line."""

import json

import numpy as np
import pytest

import qhrtem_jax
from qhrtem_jax.errors import InputError

QUICK = {
    "optimizer": {"name": "lm", "starts": 1, "max_iterations": 4},
    "specimen": {"max_cells": 5, "grid": [36, 54], "grid_error": 1e-3},
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    said = []
    found = qhrtem_jax.run("imaging", tmp_path_factory.mktemp("run") / "one", QUICK, said.append)
    assert any("NCC" in text for text in said)
    return found


def test_a_run_gives_what_its_folder_holds(result):
    content = json.loads((result.path / "result.json").read_text())
    assert result.content["fit"] == content["fit"]
    again = qhrtem_jax.open_result(str(result.path))
    value, std = again.value("C1")
    assert value == content["parameters"]["C1"]["value"]
    assert std == content["parameters"]["C1"]["std"]
    np.testing.assert_array_equal(again.arrays["simulation"], result.arrays["simulation"])
    assert (result.path / "report.html").is_file()


def test_images_have_coordinates_and_units(result):
    data = result.dataset()
    assert data["experiment"].dims == ("y", "x")
    np.testing.assert_array_equal(data["experiment"].values, result.arrays["experiment"])
    step = result.content["settings"]["data"]["sampling_nm"]
    np.testing.assert_allclose(np.diff(data["x"].values), step)
    assert data["x"].attrs["units"] == "nm"
    assert data.sizes["y"] == 44
    c1 = data["parameter_value"].sel(parameter="C1")
    assert float(c1) == pytest.approx(result.value("C1")[0])
    assert str(data["parameter_unit"].sel(parameter="C1").values) == "nm"
    fixed = [n for n, p in result.content["parameters"].items() if p["std"] is None]
    assert np.isnan(data["parameter_std"].sel(parameter=fixed).values).all()
    assert data.attrs["fit_ncc"] == pytest.approx(result.content["fit"]["ncc"])
    assert data.attrs["verdict"].startswith(result.content["verdict"]["word"])


def test_hyperspy_gets_calibrated_signals(result):
    signal = result.signal("simulation")
    np.testing.assert_array_equal(signal.data, result.arrays["simulation"])
    x, y = signal.axes_manager.signal_axes
    assert (x.name, y.name, x.units) == ("x", "y", "nm")
    assert x.scale == pytest.approx(result.content["settings"]["data"]["sampling_nm"])
    assert signal.metadata.General.title == "imaging: simulation"
    with pytest.raises(InputError, match=r"found no image .chain., expected one of .*experiment"):
        result.signal("chain")


def test_what_is_no_result_is_said(tmp_path, result):
    with pytest.raises(InputError, match=r"found no result\.json, expected the folder"):
        qhrtem_jax.open_result(tmp_path)
    with pytest.raises(InputError, match=r"already holds a result\.json"):
        qhrtem_jax.run("imaging", result.path, QUICK)
    from qhrtem_jax.io.folder_lock import locked

    with locked(tmp_path / "busy"), pytest.raises(InputError, match="busy"):
        qhrtem_jax.run("imaging", tmp_path / "busy", QUICK)
    with pytest.raises(AttributeError, match="no attribute 'opened'"):
        qhrtem_jax.opened  # noqa: B018
