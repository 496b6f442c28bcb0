"""Runs the simulate stage into a run folder."""

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.atomic import replacing
from qhrtem_jax.io.run_folder import ARRAYS, CHECKPOINT, MANIFEST, RunFolder
from qhrtem_jax.io.seal import sha256
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.progress import ProgressLine
from qhrtem_jax.reporting.report import render
from qhrtem_jax.simulation import fit as simulate


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Simulate a table of images; `started` is called once all input is checked."""
    out = None if settings.simulate.out is None else Path(settings.simulate.out)
    if out is not None:
        _check_out(out, folder, settings)
    with ProgressLine() as progress:
        task = simulate.prepare(settings)
        if folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
            started()
            progress.begin()
            _simulate(task, folder)
        if out is not None:
            _write_out(out, folder, settings.overwrite)


def _simulate(task: simulate.SimulateProblem, folder: RunFolder) -> None:
    result, arrays = simulate.run(task)
    folder.write_arrays(arrays)
    figures.montage(folder.figure_path("images"), arrays["image"], task.settings.data.sampling)
    summary = f"{result['images']} images, mean intensity {result['intensity']['mean']:.4f}."
    page = render("Simulated images", summary, result, [("images", "The first images")])
    folder.write_text("report.html", page)
    folder.write_result(result)


def _check_out(out: Path, folder: RunFolder, settings: RunSettings) -> None:
    """**Raises:** `InputError` where `simulate.out` cannot be written, or would replace something
    that is to stay."""
    if out.is_dir():
        raise InputError(f"simulate.out: {out} is a folder, expected a file that ends with .npz")
    if out.suffix != ".npz":
        raise InputError(f"simulate.out: found {out}, expected a file that ends with .npz")
    if not out.parent.is_dir():
        raise InputError(f"simulate.out: no folder {out.parent}")
    own = out.parent.resolve() == folder.path.resolve() or (out.parent / MANIFEST).is_file()
    if own and out.name in (ARRAYS, CHECKPOINT):
        raise InputError(f"simulate.out: {out} is a run folder's own file: choose another name")
    with tempfile.TemporaryFile(dir=out.parent):
        pass  # raises where nothing can be written
    if out.exists() and not (settings.overwrite or settings.resume):
        raise InputError(f"simulate.out: {out} is there already: use overwrite=true to replace it")


def _write_out(out: Path, folder: RunFolder, overwrite: bool) -> None:
    """A plain copy of the arrays of arrays.npz, which is compressed.

    An interrupted run may have written it before; a file of anything else is not replaced.
    """
    arrays = folder.read_arrays()
    if out.exists() and not overwrite:
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        if sha256(out) == hashlib.sha256(content.getbuffer()).hexdigest():
            return
        raise InputError(
            f"simulate.out: {out} holds something else: use overwrite=true to replace it"
        )
    with replacing(out.resolve()) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
