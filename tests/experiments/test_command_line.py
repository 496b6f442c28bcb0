"""The command line: exit status, one clear message, nothing lost."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import run as command
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.stages import PIPELINE, STAGES, RunSettings, run_settings
from tests import browser
from tests.experiments.commands import commanded
from tests.schema import check

EXAMPLE = Path(command.__file__).parents[1] / "qhrtem_jax" / "example"
DATA = [
    f"data.image={EXAMPLE / 'example.npy'}",
    "data.sampling_nm=0.0089",
    f"data.mtf={EXAMPLE / 'example.mtf'}",
    "data.roi_shape=[44,64]",
    "data.average=[[64,0]]",
    "data.vacuum=[0,0,64,64]",
    f"specimen.structure={EXAMPLE / 'SrTiO3_110.cel'}",
    "specimen.scattering=lobato",
]
QUICK = [
    "optimizer.max_evaluations=48",
    "optimizer.training_points=48",
    "optimizer.starts=1",
    "optimizer.max_iterations=8",
    "specimen.grid=[36,54]",
    "specimen.grid_error=1e-3",
]
QUICKER = ["optimizer=lm", *QUICK[2:], "optimizer.max_iterations=4"]
"""Least squares from one start."""


def call(*arguments, stage="imaging", **how):
    return commanded(f"+stage={stage}", *map(str, arguments), **how)


def without(*names):
    return [a for a in DATA if not a.startswith(tuple(f"{n}=" for n in names))]


@pytest.fixture
def damaged(tmp_path):
    """Files that cannot be used."""
    image = np.load(EXAMPLE / "example.npy")
    cases = {
        "nan": np.where(np.arange(image.size).reshape(image.shape) == 7, np.nan, image),
        "complex": image.astype(np.complex64),
        "counts": image * 5000.0,
        "cube": image[None, None],
    }
    for name, array in cases.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "cut.npy").write_bytes((EXAMPLE / "example.npy").read_bytes()[:5000])
    (tmp_path / "cut.dat").write_bytes(image.tobytes()[:-100])
    cel = (EXAMPLE / "SrTiO3_110.cel").read_text()
    (tmp_path / "cut.cel").write_text(cel[: cel.rindex("*")])
    (tmp_path / "unknown.cel").write_text(cel.replace("Ti", "Xx"))
    (tmp_path / "skew.cel").write_text(cel.replace("90.0", "91.0", 1))
    (tmp_path / "empty.mtf").write_text("")
    (tmp_path / "short.mtf").write_text("257\n1.0\n0.9\n")
    return tmp_path


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"data.image": "nan.npy"}, "1 pixels that are NaN"),
        ({"data.image": "complex.npy"}, "complex64 numbers, expected real"),
        ({"data.image": "counts.npy"}, "mean intensity"),
        ({"data.image": "cube.npy"}, "expected rows and columns"),
        ({"data.image": "cut.npy"}, "cannot be read"),
        ({"data.image": "cut.dat", "data.shape": "[108,64]"}, "bytes, expected 27648"),
        ({"data.image": "cut.dat"}, "data.shape: needed"),
        ({"data.image": "none.npy"}, "no file"),
        ({"data.image": "image.jpg"}, "no file"),
        ({"data.average": "[[90,0]]"}, "leave the image"),
        ({"data.average": "null"}, "data.roi_shape: found [44, 64]"),
        ({"data.vacuum": "[0,0,4,4]"}, "expected at least 8 x 8"),
        ({"data.sampling_nm": "null"}, "data.sampling_nm: none given"),
        ({"data.sampling_nm": "-0.01"}, "data.sampling_nm"),
        ({"data.mtf": "empty.mtf"}, "is empty"),
        ({"data.mtf": "short.mtf"}, "announces 257 values"),
        ({"specimen.structure": "cut.cel"}, "closing line '*' is missing"),
        ({"specimen.structure": "unknown.cel"}, "unknown element 'Xx'"),
        ({"specimen.structure": "skew.cel"}, "expected right angles"),
        ({"specimen.structure": "none.cif"}, "no file"),
        ({"specimen.structure": "null"}, "specimen.structure: none given"),
        ({"microscope.high_tension_kv": "0"}, "microscope.high_tension_kv: found 0"),
        ({"parameters.C1.low": "11"}, "parameters.C1: found bounds low=11"),
        ({"parameters.C1.low": "abc"}, "parameters.C1.low: found 'abc'"),
        ({"parameters.C9.value": "1"}, "C9"),
        ({"optimizer.speed": "3"}, "speed"),
        ({"optimizer": "magic"}, "magic"),
        ({"precision": "float16"}, "precision: found 'float16'"),
        ({"seed": "-1"}, "seed: found -1"),
        ({"device": "gpu"}, "device: gpu is not available"),
    ],
)
def test_bad_input_ends_with_2_and_one_message(damaged, replace, message):
    folder = damaged / "run"
    arguments = without(*replace)
    for key, value in replace.items():
        path = damaged / value
        known = value.endswith((".npy", ".dat", ".cel", ".cif", ".mtf", ".jpg"))
        arguments.append(f"{key}={path if known else value}")
    status, error = call(*arguments, f"hydra.run.dir={folder}")
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1, "one message, and nothing else"
    assert not (folder / "result.json").exists()
    assert not (folder / "history.csv").exists(), "no work may have started"


@pytest.mark.parametrize("stage", ["magic", "Imaging"])
def test_unknown_stage(tmp_path, stage):
    status, error = call(f"hydra.run.dir={tmp_path}", stage=stage)
    assert status == 2
    assert stage in error


def test_runs_refuses_resumes_and_overwrites(tmp_path):
    folder = tmp_path / "run"
    arguments = [*DATA, *QUICKER, "seed=5", f"hydra.run.dir={folder}"]
    assert call(*arguments, drawn=True)[0] == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["stage"] == "imaging"
    assert result["seed"] == 5
    assert result["cost"]["evaluations"] > 0
    expected = {"result.json", "arrays.npz", "history.csv", "report.html", "figures", ".hydra"}
    expected |= {"manifest.json", "fit.nc"}
    assert {p.name for p in folder.iterdir()} == expected
    assert len(list((folder / "figures").glob("*.png"))) == 5
    assert "NaN" not in (folder / "result.json").read_text()
    stamp = (folder / "result.json").read_bytes()
    overrides = (folder / ".hydra" / "overrides.yaml").read_bytes()

    status, error = call(*arguments, "seed=6")
    assert status == 2
    assert "already holds a result.json" in error
    status, error = call(*arguments, "seed=6", "resume=true")
    assert status == 2
    assert "other settings" in error
    assert call(*arguments, "resume=true")[0] == 0
    assert (folder / "result.json").read_bytes() == stamp
    assert (folder / ".hydra" / "overrides.yaml").read_bytes() == overrides

    assert call(*arguments, "seed=6", "overwrite=true")[0] == 0
    assert json.loads((folder / "result.json").read_text())["seed"] == 6
    browser.look_at(folder / "report.html")


def repeat(source, *arguments):
    return commanded("--from-result", str(source), *map(str, arguments))


def test_a_result_repeats_its_run(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(*DATA, *QUICKER, "seed=7", f"hydra.run.dir={first}")[0] == 0
    known = json.loads((first / "result.json").read_text())
    check(known)
    assert known["settings"]["optimizer"]["max_iterations"] == 4
    status, error = repeat(first / "result.json", f"hydra.run.dir={second}")
    assert status == 0, error
    again = json.loads((second / "result.json").read_text())
    assert again["settings"] == known["settings"]
    assert again["parameters"] == known["parameters"]


def test_a_run_repeated_from_its_folder_may_differ(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    quick = ["data.roi_shape=[44,64]", "microscope.high_tension_kv=200", "seed=7"]
    assert call(*quick, f"hydra.run.dir={first}", stage="simulate")[0] == 0
    known = json.loads((first / "result.json").read_text())["settings"]
    status, error = repeat(first, "seed=8", f"hydra.run.dir={second}")
    assert status == 0, error
    changed = json.loads((second / "result.json").read_text())["settings"]
    assert changed == known | {"seed": 8}


def test_what_cannot_be_repeated_is_named(tmp_path):
    (tmp_path / "other.json").write_text('{"parameters": {"C1": 4}}')
    for source, message in (
        (tmp_path / "none.json", "none.json"),
        (tmp_path / "other.json", "holds no settings of a run"),
    ):
        status, error = repeat(source, f"hydra.run.dir={tmp_path / 'run'}")
        assert status == 2
        assert message in error


def test_simulates_a_table(tmp_path):
    table, out = tmp_path / "table.csv", tmp_path / "out.npz"
    table.write_text("C1,tilt_x,thickness\n4.0,0.5,7\n6.0,-1.0,9\n")
    arguments = [
        *without("data.image", "data.average", "data.vacuum"),
        "specimen.grid=[48,64]",
        f"simulate.table={table}",
        f"simulate.out={out}",
        "simulate.save_wave=true",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    status, error = call(*arguments, stage="simulate")
    assert status == 0, error
    content = np.load(out)
    assert content["image"].shape == (2, 44, 64)
    assert content["image"].dtype == np.float32
    assert content["exit_wave"].shape == (2, 48, 64)
    assert content["exit_wave"].dtype == np.complex64
    assert np.abs(content["exit_wave"]).mean() == pytest.approx(1.0, abs=0.1)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["images"] == 2
    check(result)
    browser.look_at(tmp_path / "run" / "report.html")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C1,colour\n1,2\n", "colour"),
        ("C1\nabc\n", "line 2, column C1: found 'abc'"),
        ("C1,thickness\n1,0\n", "found thickness 0"),
        ("C1,C1\n1,2\n", "each once"),
        ("C1\n1,2\n", "too many values"),
        ("absorption\n-0.5\n", "negative absorption"),
        ("C1\n", "no rows"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    table = tmp_path / "table.csv"
    table.write_text(text)
    arguments = [f"simulate.table={table}", f"hydra.run.dir={tmp_path / 'run'}"]
    status, error = call(
        *without("data.image", "data.average", "data.vacuum"),
        *arguments,
        stage="simulate",
    )
    assert status == 2
    assert message in error


def test_what_the_user_gives_wins_over_the_example(tmp_path):
    arguments = [f"data.mtf={tmp_path / 'none.mtf'}", f"hydra.run.dir={tmp_path / 'run'}"]
    status, error = call(*arguments)
    assert status == 2
    assert "none.mtf" in error


def test_priors_written_for_another_convention_are_refused(tmp_path):
    status, error = call(
        "parameters=corrected_microscope",
        "microscope.aberration_convention=drprobe",
        f"hydra.run.dir={tmp_path}",
    )
    assert status == 2
    assert "written for 'haider'" in error


def test_sweep_runs_all_and_summarises(tmp_path):
    sweep = ["-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}", "+stage=imaging", *DATA, *QUICKER]
    status, error = commanded(*sweep)
    assert status == 0, error
    rows = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("run,status,seed,mse")
    assert all(",done," in row for row in rows[1:])


def test_a_sweep_tells_what_varies_and_what_failed(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("C1,thickness\n4.0,7\n")
    sweep = tmp_path / "sweep"
    arguments = [
        *without("data.image", "data.average", "data.vacuum"),
        *("-m", "specimen.grid=[48,64]", "microscope.high_tension_kv=200,300,1"),
        *(f"simulate.table={table}", f"hydra.sweep.dir={sweep}"),
    ]
    status, error = call(*arguments, stage="simulate")
    assert status == 2
    with (sweep / "summary.csv").open() as file:
        rows = {row["microscope.high_tension_kv"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"200", "300", "1"}
    assert [rows[kv]["status"] for kv in ("200", "300", "1")] == ["done", "done", "failed"]
    assert "expected 10 to 10000" in rows["1"]["message"]
    assert rows["1"]["message"] in error
    assert rows["200"]["run"] == "high_tension_kv=200"
    assert (sweep / "high_tension_kv=200" / "result.json").is_file()
    assert "specimen.grid" not in rows["200"]


def test_names_of_sweep_folders():
    a = command.run_name(["+stage=imaging", "seed=0", "data.image=/x/a.npy", "resume=true"])
    b = command.run_name(["+stage=imaging", "seed=0", "data.image=/y/a.npy"])
    assert a.startswith("seed=0,image=a.npy")
    assert a != b
    assert command.run_name(["+stage=imaging", "seed=3"]) == "seed=3"


def composed(*overrides):
    with initialize_config_dir(command.CONFIGS, version_base="1.3"):
        content = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize(
    ("stage", "optimizer", "parameters", "priors"),
    [
        ("imaging", "turbo", "default", 0),
        ("structure", "lm", "corrected_microscope", 13),
        ("pipeline", "hybrid", "corrected_microscope", 13),
    ],
)
def test_what_is_chosen_of_each_group_is_composed(stage, optimizer, parameters, priors):
    chosen = (f"+stage={stage}", f"optimizer={optimizer}", f"parameters={parameters}")
    settings = run_settings(composed(*chosen))
    assert settings.optimizer.name == optimizer
    known = parameter_space(settings).fitted.space.prior_std
    assert np.isfinite(known).sum() == priors


@pytest.mark.parametrize("stage", [*STAGES, PIPELINE])
def test_configurations_hold_the_defaults_of_the_settings(stage):
    """Every option is in a configuration, with the value that the dataclass gives it."""
    content = composed(f"+stage={stage}")
    settings = run_settings(content)
    assert settings.stage == stage
    assert parameter_space(settings).fitted.space.names
    defaults = json.loads(json.dumps(dataclasses.asdict(RunSettings(stage))))
    for name, value in defaults.items():
        if name == "parameters":
            continue  # which hold what is known of a microscope
        if not isinstance(value, dict):
            assert content[name] == value
            continue
        assert content[name] == value, name
