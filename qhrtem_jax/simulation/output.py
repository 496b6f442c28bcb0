"""`simulate.out`: a plain copy of a run's arrays, where the user wants it."""

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.atomic import replacing
from qhrtem_jax.io.run_folder import ARRAYS, CHECKPOINT, MANIFEST, RunFolder
from qhrtem_jax.io.seal import sha256
from qhrtem_jax.simulation.settings import SimulationSettings


def check_out(settings: SimulationSettings, folder: RunFolder) -> None:
    """**Raises:** `InputError` where `simulate.out` cannot be written, or would replace something
    that is to stay."""
    if settings.simulate.out is None:
        return
    out = Path(settings.simulate.out)
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


def write_out(settings: SimulationSettings, folder: RunFolder) -> None:
    """Write the arrays of arrays.npz, which may be compressed, plainly.

    An interrupted run may have written it before; a file of anything else is not replaced.
    """
    if settings.simulate.out is None:
        return
    out = Path(settings.simulate.out)
    folder.check_arrays()
    if out.exists() and not settings.overwrite:
        with tempfile.TemporaryFile(dir=out.parent) as content:
            _copy(folder.path / ARRAYS, content)
            content.seek(0)
            if sha256(out) == hashlib.file_digest(content, "sha256").hexdigest():
                return
        raise InputError(
            f"simulate.out: {out} holds something else: use overwrite=true to replace it"
        )
    with replacing(out.resolve()) as file:
        _copy(folder.path / ARRAYS, file)


def _copy(arrays: Path, file: BinaryIO) -> None:
    """The arrays of an .npz file as `numpy.savez` writes them, a piece at a time."""
    with zipfile.ZipFile(arrays) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            with (
                source.open(name) as content,
                target.open(zipfile.ZipInfo(name), "w", force_zip64=True) as copy,
            ):
                shutil.copyfileobj(content, copy, 2**20)
