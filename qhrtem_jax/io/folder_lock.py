"""One process in a run folder at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from qhrtem_jax.errors import InputError

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of `folder`, which is made where it is missing.

    **Raises:** `InputError` if another process is in it. The lock of a process that has died on
    this machine is no lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = folder / LOCK
    if os.path.lexists(there) and (there.is_symlink() or not there.is_file()):
        raise InputError(f"hydra.run.dir: {there} is no lock of a run: remove it")
    lock = filelock.SoftFileLock(there, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"hydra.run.dir: {folder} is in use by {_holder(there)}: wait for it, or use another "
            f"folder (if it has died, remove {there})"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _holder(lock: Path) -> str:
    try:
        lines = lock.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        lines = []
    return f"process {lines[0]} on {lines[1]}" if len(lines) > 1 else "another process"
