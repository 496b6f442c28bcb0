"""A run cannot hurt its user: other people's files, other runs, full disks, signals."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from experiments import run as command_line
from qhrtem_jax.io.run_folder import MANIFEST
from tests import crash
from tests.experiments.commands import commanded, finish

ROOT = Path(__file__).parents[2]
SOON = ("optimizer=lm", *(f"optimizer.{option}" for option in ("starts=1", "max_iterations=12")))
"""Least squares compile in a fraction of the time that a search takes."""


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    return crash.imaging_parameters(tmp_path_factory.mktemp("known"))


def whole(folder: Path, known: Path, *options: str) -> Path:
    """An imaging run that nothing disturbed."""
    finish("imaging", folder / "whole", known, *options)
    return folder / "whole"


def start(folder: Path, known: Path, *options: str) -> subprocess.Popen[str]:
    """An imaging run in a process of its own."""
    command = crash.arguments("imaging", folder, known, *options)
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(mark: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not mark.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def simulation(folder: Path | str) -> list[str]:
    return ["+stage=simulate", "data.roi_shape=[44,64]", f"hydra.run.dir={folder}"]


def test_runs_that_start_together_never_mix(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.run", *simulation(folder)]
    together = [
        subprocess.Popen([*command, f"seed={seed}"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in together]
    done = [k for k, process in enumerate(together) if process.returncode == 0]
    assert len(done) == 1, errors
    for k, process in enumerate(together):
        if k not in done:
            assert process.returncode == 2
            # a holder that has not yet signed its lock is "another process"
            assert "in use by" in errors[k] or "already holds" in errors[k]
    assert json.loads((folder / "result.json").read_text())["seed"] == done[0]
    overrides = (folder / ".hydra" / "overrides.yaml").read_text()
    assert f"seed={done[0]}" in overrides


def test_the_users_own_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("figures/a.png", "structures/a.cel", "arrays.npz", "report.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"precious")
    for option in ("overwrite=true", "resume=true", "seed=1"):
        status, error = commanded(*simulation("."), option)
        assert status == 2, error
        assert "manifest.json" in error
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert len(files) == 4
        assert all(p.read_bytes() == b"precious" for p in files)


def test_what_simulate_writes_replaces_nothing_unasked(tmp_path):
    out = tmp_path / "it's a=[b] ${c} ä.npz"  # letters that the command line must not interpret
    arguments = [*simulation(tmp_path / "run"), f"simulate.out={out}"]
    out.write_bytes(b"precious")
    status, error = commanded(*arguments)
    assert status == 2
    assert "overwrite=true" in error
    assert out.read_bytes() == b"precious"
    status, error = commanded(*arguments, "overwrite=true")
    assert status == 0, error
    assert np.load(out)["image"].shape == (1, 44, 64)
    assert commanded(*arguments, "resume=true")[0] == 0
    status, error = commanded(*simulation(tmp_path / "other"), f"simulate.out={tmp_path}")
    assert status == 2
    assert "is a folder" in error


def test_signals_end_with_one_line_and_the_run_goes_on(known, tmp_path):
    """Before its work, and in the midst of it."""
    folder = tmp_path / "run"
    for number, status, times, mark in (
        (signal.SIGTERM, 143, 1, MANIFEST),
        (signal.SIGINT, 130, 20, "history.csv"),
    ):
        process = start(folder, known, *SOON)
        wait_for(folder / mark, process)
        for _ in range(times):  # those after the first change nothing
            process.send_signal(number)
            time.sleep(0.01)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == status
        last = error.splitlines()[-1]
        assert last.startswith("interrupted: the same command with resume=true")
        assert f"hydra.run.dir={folder}" in last
        assert "Traceback" not in error
    # in the midst of its work (while programs compile, the process is ended where it stands)
    assert not (folder / ".lock").exists()
    finish("imaging", folder, known, *SOON)
    expected = crash.outcome(whole(tmp_path, known, *SOON))
    assert crash.differences(expected, crash.outcome(folder)) == []


def test_a_kill_at_any_moment_changes_nothing(known, tmp_path):
    """A search keeps checkpoints. `python -m tests.crash` kills many more, at moments that a
    generator draws."""
    folder = tmp_path / "run"
    for mark in (MANIFEST, "history.csv"):  # before work, and in its midst
        process = start(folder, known)
        wait_for(folder / mark, process)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    finish("imaging", folder, known)
    expected = crash.outcome(whole(tmp_path, known))
    assert crash.differences(expected, crash.outcome(folder)) == []


def test_garbage_is_not_taken_for_a_result(known, tmp_path):
    folder = tmp_path / "run"
    finish("simulate", folder, known)
    expected = crash.outcome(folder)
    (folder / "result.json").write_text("garbage\n")
    finish("simulate", folder, known)
    assert crash.outcome(folder) == expected
    assert (folder / "result.json.damaged").read_text() == "garbage\n"


def test_inputs_in_the_run_folder_are_refused_before_work(tmp_path):
    folder = tmp_path / "run"
    assert commanded(*simulation(folder))[0] == 0
    table = folder / "table.csv"
    table.write_text("C1\n4.0\n")
    example = ROOT / "qhrtem_jax" / "example" / "SrTiO3_110.cel"
    options = [f"simulate.table={table}", f"specimen.structure={example}", "data.sampling_nm=0.009"]
    status, error = commanded(*simulation(folder), *options, "overwrite=true")
    assert status == 2
    assert "simulate.table" in error
    assert "lies in the run folder" in error
    assert (folder / "result.json").is_file()
    assert table.read_text() == "C1\n4.0\n"


@contextlib.contextmanager
def small_disk(path: Path, size: str, *options: str):
    """A file system of its own at `path`; the test is skipped where that is not allowed."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(path)]
    try:
        allowed = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("size", ["8k", "40k", "120k"])
def test_a_full_disk_is_named_and_no_part_stays(tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        status, error = commanded(*simulation(disk / "run"), "data.roi_shape=[128,128]", drawn=True)
        assert status == 2, error
        assert str(disk / "run") in error
        assert "Traceback" not in error
        assert not [p for p in disk.rglob("*") if p.name.endswith(".part")]
        assert not (disk / "run" / "result.json").exists()


def test_a_read_only_folder_is_named(tmp_path):
    with small_disk(tmp_path / "disk", "1m", "ro") as disk:
        status, error = commanded(*simulation(disk / "run"))
        assert status == 2
        assert str(disk / "run") in error
        assert "Traceback" not in error


def test_default_folders_of_runs_in_one_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for process in (3, 4):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        assert commanded("+stage=imaging", "data.image=no")[0] == 2
    folders = [folder.name for folder in (tmp_path / "runs" / "imaging").iterdir()]
    # date and time, then the process
    assert sorted(name.rpartition("_")[2] for name in folders) == ["3", "4"]
    assert all(len(name.rpartition("_")[0]) == len("2026-11-30_16-30-04") for name in folders)


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "argument",
    [f"seed={DIGITS}", "data=3", "parameters=null", "microscope=[1,[2]]"],
)
def test_what_the_parser_cannot_take_is_one_message(monkeypatch, capfd, tmp_path, argument):
    GlobalHydra.instance().clear()
    run_dir = f"hydra.run.dir={tmp_path / 'run'}"
    monkeypatch.setattr(sys, "argv", ["run", "+stage=imaging", argument, run_dir])
    assert command_line.main() == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert len(error) < 3000
