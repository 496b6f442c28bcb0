"""Size of a stage before its work: estimates, and what is refused."""

import logging
import time
from importlib import resources

import jax
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import memory, size
from qhrtem_jax.inputs.memory import free_bytes
from tests.runs import example_settings, prepared

EXAMPLE = resources.files("qhrtem_jax") / "example"


def prepare(stage, **groups):
    content = {"data": {}, "specimen": {}, "microscope": {}, "simulate": {}} | groups
    return prepared(example_settings({"stage": stage, "memory_gb": 16, **content}))


def seconds_and_gib(caplog, stage):
    """What the log says."""
    line = next(m for m in caplog.messages if m.startswith(f"estimate of {stage}"))
    words = line.split()
    unit = {"s,": 1.0, "min,": 60.0, "h,": 3600.0, "d,": 86400.0}[words[5]]
    return float(words[4]) * unit, float(words[6])


def test_free_memory_is_that_of_a_machine():
    assert 0.1 * size.GIB < free_bytes() < 1e5 * size.GIB


def test_limits_of_control_groups_count(tmp_path):
    names = ("memory.max", "memory.current", "inactive_file")
    assert memory._left(tmp_path, *names) is None
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert memory._left(tmp_path, *names) == 500_000.0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left(tmp_path, *names) is None


@pytest.mark.parametrize("stage", ["imaging", "structure", "reconstruct"])
def test_the_example_s_estimate_is_logged(stage, caplog):
    with caplog.at_level(logging.INFO):
        prepare(stage)
    seconds, gib = seconds_and_gib(caplog, stage)
    assert 15.0 <= seconds <= 300.0
    assert 0.5 <= gib <= 2.0


def test_more_work_is_estimated_longer_and_larger(caplog):
    found = []
    for evaluations in (256, 25_600):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            prepare("imaging", optimizer={"max_evaluations": evaluations})
        found.append(seconds_and_gib(caplog, "imaging"))
    assert found[1][0] > 20.0 * found[0][0]
    assert found[1][1] > found[0][1] + 0.5


LARGE_FRAME = {
    "structure": str(EXAMPLE / "SrTiO3_110.cel"),
}


@pytest.mark.parametrize(
    ("stage", "groups", "message"),
    [
        ("imaging", {"specimen": {"grid": [20000, 20000]}}, r"specimen\.grid: found \[20000, 200"),
        ("structure", {"specimen": {"grid": [20000, 20000]}}, r"specimen\.grid: found"),
        ("reconstruct", {"specimen": {"grid": [20000, 20000]}}, r"specimen\.grid: found"),
        ("reconstruct", {"specimen": {"max_cells": 10_000}}, r"specimen\.max_cells: found 10000"),
        (
            "imaging",
            {"optimizer": {"max_evaluations": 1_000_000}},
            r"optimizer\.max_evaluations: found 1000000, with which imaging needs about",
        ),
        (
            "imaging",
            {"optimizer": {"training_points": 4096, "max_evaluations": 4096}, "memory_gb": 2},
            r"optimizer\.training_points: found 4096",
        ),
        (
            "imaging",
            {"parameters": {"thickness": {"high": 100_000}}},
            r"parameters\.thickness\.high: found 100000",
        ),
        ("imaging", {"memory_gb": 0.2}, r"memory_gb: found 0\.2 GiB"),
        (
            "simulate",
            {
                "data": {"roi_shape": [60000, 60000], "sampling_nm": 0.01},
                "specimen": LARGE_FRAME,
            },
            r"data\.roi_shape: found \[60000, 60000\]",
        ),
        (
            "simulate",
            {
                "data": {"roi_shape": [40, 40], "sampling_nm": 0.01},
                "specimen": LARGE_FRAME,
                "parameters": {"thickness": {"value": 100_000}},
                "memory_gb": 2,
            },
            r"parameters\.thickness\.value: found 100000",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_once(stage, groups, message):
    jax.devices()
    start = time.perf_counter()
    with pytest.raises(InputError, match=message):
        prepare(stage, **groups)
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize("factor", [10.0, 100.0])
def test_a_cell_in_angstrom_is_asked_about(factor, tmp_path):
    lines = (EXAMPLE / "SrTiO3_110.cel").read_text().splitlines()
    cell = lines[1].split()
    cell[1:4] = [f"{factor * float(edge):.4f}" for edge in cell[1:4]]
    path = tmp_path / "angstrom.cel"
    path.write_text("\n".join([lines[0], " ".join(cell), *lines[2:]]) + "\n")
    with pytest.raises(InputError, match=r"specimen\.structure: .* is the file in Angstrom\?"):
        prepare(
            "imaging",
            data={"image": str(EXAMPLE / "example.npy"), "sampling_nm": 0.0089},
            specimen={"structure": str(path)},
        )


def test_a_table_of_absurd_numbers_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    for text, name in (("thickness\n1e9\n", "thickness"), ("C1\n1e300\n", "C1")):
        table.write_text(text)
        with pytest.raises(InputError, match=rf"row 1: found {name}"):
            prepare(
                "simulate",
                data={"roi_shape": [40, 40], "sampling_nm": 0.01},
                specimen=LARGE_FRAME,
                simulate={"table": str(table)},
            )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.0, "about 10 s"), (74.0, "about 70 s"), (200.0, "about 3 min"), (3e4, "about 8 h")],
)
def test_durations_are_said_as_one_says_them(seconds, text):
    assert size.duration(seconds) == text


def test_sizes_grow_with_the_pixels_only_where_they_are_held():
    """Beyond the threshold, images are compared in the band of the image grid."""
    settings = example_settings({"stage": "imaging"})
    task = prepared(settings)
    crystal = task.crystal
    small, large = (
        size.imaging(settings, crystal, task.space, shape).bytes / size.GIB
        for shape in ((200, 200), (1056, 1536))
    )
    assert small < 2.0
    assert large < 2.0
    assert np.isfinite(large)
