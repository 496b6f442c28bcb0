"""Runs the simulate stage into a run folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import figures
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
    if folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
        started()
        result, arrays = simulate.run(task)
        folder.write_arrays("arrays.npz", arrays)
        figures.montage(folder.figure_path("images"), arrays["image"], settings.data.sampling)
        summary = f"{result['images']} images, mean intensity {result['intensity']['mean']:.4f}."
        page = render("Simulated images", summary, result, [("images", "The first images")])
        folder.write_text("report.html", page)
        folder.write_json("result.json", result)
    if out is not None:
        # arrays.npz is compressed; what was asked for is a plain copy of its arrays
        arrays = folder.read_arrays("arrays.npz") or {}
        part = out.with_name(f"part-{out.name}")
        np.savez(part, **arrays)  # type: ignore[arg-type]
        shutil.move(part, out)
