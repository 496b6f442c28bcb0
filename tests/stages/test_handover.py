"""Results that are handed over: values that cannot be, and a fingerprint of what is used."""

import dataclasses
import json

import numpy as np
import pytest

from qhrtem_jax import pipeline
from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.handover import imaging_vector, read_result
from qhrtem_jax.inputs.identity import fingerprint
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.reporting.progress import ProgressLine
from qhrtem_jax.stages import STAGES, run_settings
from tests.runs import example_settings


def identity(settings) -> str:
    return fingerprint(settings, Reader())


SETTINGS = run_settings({"stage": "structure"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("thickness", -3, "found thickness -3"),
        ("thickness", 7.5, "found thickness 7.5"),
        ("thickness", 0, "found thickness 0"),
        ("thickness", 20_000, r"within \+-10000"),
        ("absorption", -0.1, "negative absorption"),
        ("absorption", 1.5, r"absorption is 1\.5, expected a number within \+-1"),
        ("image_spread", -1e-3, "negative image_spread"),
        ("focus_spread", -1, "negative focus_spread"),
        ("semi_convergence", -1, "negative semi_convergence"),
        ("C1", 1e13, "C1 is 10000000000000.0"),
        ("C1", 10**400, "C1 is"),
        ("C1", True, "C1 is True"),
        ("C1", "4", "C1 is 4"),
        ("C1", [4], "C1 is"),
        ("C1", float("nan"), "C1 is nan"),
    ],
)
def test_values_that_cannot_be_are_named(name, value, message):
    for entry in (value, {"value": value}):
        with pytest.raises(InputError, match=rf"imaging\.result: it: .*{message}"):
            imaging_vector(SETTINGS, {"parameters": {name: entry}}, "it")


def test_a_drift_is_taken_within_its_bounds():
    """The opposite drift gives the same image."""
    table = {"drift_x": -0.04, "drift_y": 0.01}
    found = imaging_vector(SETTINGS, {"parameters": table}, "it")
    assert [found[INDEX[name]] for name in table] == [0.04, -0.01]


def test_bounds_themselves_are_taken():
    table = {"thickness": 10_000, "absorption": 1.0, "image_spread": 0, "C1": -1e5}
    found = imaging_vector(SETTINGS, {"parameters": table}, "it")
    assert [found[INDEX[name]] for name in table] == list(table.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parameters": [1, 2]}, "no `parameters`"),
        ({"parameters": "C1"}, "no `parameters`"),
        ({"parameters": {"C1": 1}, "conventions": "drprobe"}, "conventions is 'drprobe'"),
        ({"parameters": {"C1": 1}, "conventions": {"aberrations": "x"}}, "expected one of haider"),
        ({"parameters": {"C1": 1}, "conventions": {"aberrations": ["haider"]}}, "expected one of"),
    ],
)
def test_content_of_another_shape_is_named(content, message):
    with pytest.raises(InputError, match=message):
        imaging_vector(SETTINGS, content, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1' + "0" * 400 + "}", "401 digits"),
        ('{"a": 1' + "0" * 5000 + "}", "5001 digits"),
        ('{"a": 1, "a": 2}', "holds 'a' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[1]", "no JSON object"),
        ("{", "no readable JSON"),
    ],
)
def test_json_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_result(tmp_path / "r.json", "imaging.result")


def imaging_result(path, **changes):
    content = {
        "version": "1",
        "parameters": {"C1": {"value": 4.0, "std": 0.1}},
        "conventions": {"aberrations": "haider"},
        "cost": {"wall_s": 3.0},
    }
    path.write_text(json.dumps(content | changes))
    return identity(run_settings({"stage": "structure", "imaging": {"result": str(path)}}))


def test_the_fingerprint_takes_from_an_imaging_result_what_is_used(tmp_path):
    path = tmp_path / "r.json"
    first = imaging_result(path)
    assert imaging_result(path, cost={"wall_s": 9.0}, version="2") == first
    assert imaging_result(path, parameters={"C1": {"value": 4.0, "std": 0.2}}) == first
    assert imaging_result(path, parameters={"C1": 4.0}) == first
    assert imaging_result(path, parameters={"C1": 4.1}) != first
    assert imaging_result(path, conventions={"aberrations": "drprobe"}) != first
    assert imaging_result(tmp_path / "moved.json") == first


def stitch_result(folder, points, **changes):
    content = {"rois": [{"origin_px": [0, 0]}], "parameters": {}, "cost": {"wall_s": 1.0}}
    run = RunFolder(folder)
    run.prepare("", resume=False, overwrite=folder.exists())
    run.write_arrays({"points": points, "relaxed_points": points, "experiment": np.zeros(3)})
    run.write_result(content | changes)
    return identity(run_settings({"stage": "stitch", "stitch": {"result": str(folder)}}))


def test_the_fingerprint_takes_from_counted_regions_what_is_used(tmp_path):
    points = np.arange(6.0).reshape(2, 3)
    first = stitch_result(tmp_path / "a", points)
    assert stitch_result(tmp_path / "b", points, cost={"wall_s": 2.0}, warnings=["x"]) == first
    assert stitch_result(tmp_path / "a", points + 1) != first
    assert stitch_result(tmp_path / "a", points, rois=[{"origin_px": [0, 1]}]) != first
    (tmp_path / "a" / "arrays.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"arrays\.npz is not as it was written"):
        identity(run_settings({"stage": "stitch", "stitch": {"result": str(tmp_path / "a")}}))


def test_the_fingerprint_of_other_files_is_that_of_their_bytes(tmp_path):
    path = tmp_path / "table.csv"
    settings = run_settings({"stage": "simulate", "simulate": {"table": str(path)}})
    path.write_text("C1\n1\n")
    first = identity(settings)
    path.write_text("C1\n1.0\n")
    assert identity(settings) != first
    assert identity(dataclasses.replace(settings, resume=True)) != first
    path.write_text("C1\n1\n")
    assert identity(dataclasses.replace(settings, resume=True)) == first


@pytest.mark.parametrize("source", ["imaging", "structure"])
def test_the_pipeline_hands_on_what_it_is_told_to(tmp_path, monkeypatch, source):
    """Imaging parameters of the mean's imaging, or of its structure, to the stages after it."""
    handed = {}

    def recorded(name):
        def prepare(settings, reader):
            handed[name] = settings.imaging.result
            return settings

        return dataclasses.replace(STAGES[name], prepare=prepare)

    monkeypatch.setattr(pipeline, "STAGES", {name: recorded(name) for name in STAGES})
    monkeypatch.setattr(pipeline, "_in_part", lambda *_: None)
    monkeypatch.setattr(pipeline, "_write_chain", lambda *_: None)
    settings = example_settings({"stage": "pipeline", "pipeline": {"handover": source}})
    told = pipeline._Told(settings)
    means = pipeline._Means(Reader(), ProgressLine())
    pipeline._chain(settings, settings, RunFolder(tmp_path), means, told)
    assert handed["structure"] == str(tmp_path / "imaging")
    assert handed["reconstruct"] == handed["stitch"] == str(tmp_path / source)
