"""Runs imaging, structure, reconstruct and stitch on one field, each in a folder of its own."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import imaging, reconstruct, stitch, structure
from qhrtem_jax.field import stitch as stitch_stage
from qhrtem_jax.inline_imaging import averaged_data
from qhrtem_jax.inputs import problem
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RESULT, RunFolder, read_json
from qhrtem_jax.reporting.report import render
from qhrtem_jax.reporting.result import header

log = logging.getLogger("qhrtem_jax")

RUNNERS = {
    "imaging": imaging.run,
    "structure": structure.run,
    "reconstruct": reconstruct.run,
    "stitch": stitch.run,
}


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """All stages in turn; `started` is called once all input is checked.

    As in the paper, the imaging parameters of the imaging stage are handed to all others (the mean
    structure of the averaged regions belongs to none of them), and the counts to the stitching.
    A stage that is done is not repeated when the run is resumed, and one that was interrupted goes
    on, so a kill at any point costs little and changes nothing.
    """
    stitch_stage.prepare(dataclasses.replace(settings, stage="stitch"))
    averaged = dataclasses.replace(settings, data=averaged_data(settings.data))
    if not folder.prepare(problem.fingerprint(settings), settings.resume, settings.overwrite):
        return
    started()
    handed: dict[str, Path] = {}
    names = [n for n in RUNNERS if n != "imaging" or settings.imaging.result is None]
    for name in names:
        log.info("pipeline: %s", name)
        chosen = stage_settings(name, settings, averaged, handed)
        RUNNERS[name](chosen, folder.sub(name), _nothing)
        handed[name] = folder.path / name
    write_result(settings, folder, names)


def stage_settings(
    name: str, settings: RunSettings, averaged: RunSettings, handed: dict[str, Path]
) -> RunSettings:
    """Settings of one stage, with what the earlier ones found."""
    chosen = averaged if name in ("imaging", "structure") else settings
    # which regions were averaged says where the image shift that was found belongs
    data = dataclasses.replace(chosen.data, average=averaged.data.average)
    chosen = dataclasses.replace(chosen, stage=name, data=data)
    source = None if name == "imaging" else "imaging"
    if source in handed:
        known = dataclasses.replace(chosen.imaging, result=str(handed[source]))
        chosen = dataclasses.replace(chosen, imaging=known)
    if name == "stitch":
        known = dataclasses.replace(chosen.stitch, result=str(handed["reconstruct"]))
        chosen = dataclasses.replace(chosen, stitch=known)
    return chosen


def write_result(settings: RunSettings, folder: RunFolder, names: list[str]) -> None:
    """The pipeline's own result: where the stages are, and what the last one found."""
    results = {name: read_json(folder.path / name / RESULT) for name in names}
    last = results["stitch"]
    cost = {
        key: round(sum(r["cost"][key] for r in results.values()), 3)
        for key in ("evaluations", "gradient_evaluations", "wall_s", "compile_s")
    }
    result: dict[str, Any] = header(settings) | {
        "warnings": [f"{n}: {w}" for n, r in results.items() for w in r["warnings"]],
        "grid": last["grid"],
        "noise": last["noise"],
        "fit": last["fit"],
        "parameters": last["parameters"],
        "correlations": last["correlations"],
        "stages": {name: name for name in names},
        "rois": last["rois"],
        "field": last["field"],
        "cost": cost,
    }
    rows = [
        [
            name,
            f"{r['fit']['mse']:.6f}",
            f"{100 * r['fit']['ncc']:.2f}",
            f"{r['cost']['wall_s']:.0f}",
        ]
        for name, r in results.items()
    ]
    table = ("Stages", ["stage", "MSE", "NCC (%)", "time (s)"], rows)
    links = [(name, f"{name}/report.html") for name in names]
    page = render(
        "From one image to a model", "All four stages are done.", result, [], [table], links
    )
    folder.write_text("report.html", page)
    folder.write_result(result)


def _nothing() -> None:
    """Sub-runs keep no .hydra/ of their own."""
