"""Runs the simulate stage into a run folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting.report import render
from qhrtem_jax.stages import simulate
from qhrtem_jax.stages.settings import RunSettings


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Simulate a table of images; `started` is called once all input is checked."""
    out = None if settings.simulate.out is None else Path(settings.simulate.out)
    if out is not None and out.suffix != ".npz":
        raise InputError(f"simulate.out: found {out}, expected a file that ends with .npz")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"simulate.out: no folder {out.parent}")
    task = simulate.prepare(settings)
    folder.prepare(resume=settings.resume, overwrite=settings.overwrite)
    if settings.resume and folder.finished:
        return
    started()
    result, arrays = simulate.run(task)
    folder.write_arrays("arrays.npz", arrays)
    if out is not None:
        np.savez(out, **arrays)  # type: ignore[arg-type]
    summary = f"{result['images']} images, mean intensity {result['intensity']['mean']:.4f}."
    folder.write_text("report.html", render("Simulated images", summary, result, []))
    folder.write_json("result.json", result)
