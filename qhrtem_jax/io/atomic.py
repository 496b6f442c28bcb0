"""Files that are whole or absent: written beside their place, flushed to disk, then renamed."""

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PART = ".part"


@contextlib.contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when the block ends, and leaves nothing if it fails.

    `durable`: wait until its content is on disk, so that a crash of the machine finds the old file
    or the new one.

    **Raises:** `OSError` that names `target` (a full disk names none by itself).
    """
    scratch = target.with_name(f"{_part_of(target)}{os.getpid()}{PART}")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(scratch, target)
        if durable:
            _sync_folder(target.parent)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise type(error)(error.errno, error.strerror or str(error), str(target)) from error
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str, *, durable: bool = True) -> None:
    """`text` as UTF-8, whole or not at all."""
    with replacing(target, durable=durable) as file:
        file.write(text.encode("utf-8"))


def remove_parts(target: Path) -> None:
    """Remove what killed processes left of `target`."""
    for part in target.parent.glob(f"{glob.escape(_part_of(target))}*{PART}"):
        part.unlink(missing_ok=True)


def _part_of(target: Path) -> str:
    """How the names of unfinished files of `target` begin; they are no longer than its own can
    be."""
    return f".{target.name.encode()[:200].decode(errors='ignore')}."


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    # not every file system can, nor may every folder that is written to be read
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
