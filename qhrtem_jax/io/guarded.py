"""Files that are read by a process of its own, within a time and an amount of memory.

Libraries in C may loop for ever, or crash, over a damaged file; that ends their process, not the
run.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size, reading
from qhrtem_jax.io.image_size import MOST_PIXELS

ROOT = Path(__file__).parents[2]
"""Where the package lies."""

SECONDS, BYTES_PER_SECOND = 20.0, 2e7
"""Time that a file may take: at least, and by its size."""

MEMORY = 8 * MOST_PIXELS + 2**31
"""Address space in bytes: the largest image as float64, libraries and what they keep."""

Content = tuple[np.ndarray | None, Any]
"""An array, and what else there is to say of it, as JSON may hold it."""


def guarded(read: Callable[[Path, str], Content], path: Path, option: str) -> Content:
    """`read(path, option)`, a function of a module, in a process of its own.

    **Raises:** `InputError` as `read` does, and where it fails, crashes or takes too long.
    """
    seconds = SECONDS + size_of(path, option) / BYTES_PER_SECOND
    where = f"{option}: {path}"
    with tempfile.TemporaryDirectory() as folder:
        name = f"{read.__module__}:{read.__qualname__}"
        # -P: no module of the folder that one happens to be in takes the place of another
        command = [sys.executable, "-P", "-m", __name__, name, str(path.absolute()), option, folder]
        known = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=seconds,
                check=False,
                env={**os.environ, "PYTHONPATH": known},
            )
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{where} cannot be read (its library took more than {seconds:.0f} s: is it "
                "damaged?)"
            ) from None
        told = Path(folder) / "told.json"
        if not told.is_file():
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise InputError(
                f"{where} cannot be read (its library failed with status {done.returncode}"
                f"{''.join(f', {line[:120]}' for line in last)}: is it damaged?)"
            )
        found = json.loads(told.read_text(encoding="utf-8"))
        if "refused" in found:
            raise InputError(found["refused"].replace(str(path.absolute()), str(path), 1))
        array = Path(folder) / "array.npy"
        return (np.load(array) if array.is_file() else None), found["more"]


def size_of(path: Path, option: str) -> int:
    """Bytes of a file, or of all files of a folder.

    **Raises:** `InputError` as `file_size`.
    """
    if not path.is_dir():
        return file_size(path, option)
    return sum(file_size(part, option) for part in path.rglob("*") if not part.is_dir())


def _child(name: str, path: str, option: str, folder: str) -> None:
    with contextlib.suppress(ImportError):  # where the system has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module, function = name.split(":")
    told: dict[str, Any] = {}
    try:
        with reading(Path(path), option):
            array, more = getattr(importlib.import_module(module), function)(Path(path), option)
            if array is not None:
                np.save(Path(folder) / "array.npy", array)
        told["more"] = more
    except InputError as error:
        told["refused"] = str(error)
    (Path(folder) / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    _child(*sys.argv[1:])
