"""The folder of a run: written so that a killed run leaves a readable folder.

`manifest.json` marks a folder as a run's and names every file that was written into it; nothing
else in it is ever touched. Each file is whole or absent (`io.atomic`); `result.json` comes last,
with the checksum of `arrays.npz` and its own (`io.seal`), and marks the run as done.
"""

import contextlib
import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import DamagedError, InputError
from qhrtem_jax.io.atomic import remove_parts, replacing
from qhrtem_jax.io.files import place_of
from qhrtem_jax.io.json_files import plain, read_object
from qhrtem_jax.io.large_arrays import large, on_disk, write_npz
from qhrtem_jax.io.models import AtomModel, model_texts
from qhrtem_jax.io.seal import (
    CHECKSUM,
    Arrays,
    file_sum,
    is_as_summed,
    read_own_npz,
    sealed_arrays,
    sealed_json,
)

log = logging.getLogger(__name__)

RESULT = "result.json"
ARRAYS = "arrays.npz"
CHECKPOINT = "checkpoint.npz"
MANIFEST = "manifest.json"
FINGERPRINT = "fingerprint"
SCHEMA = "qhrtem_jax/result/1"
FOLDER_SCHEMA = "qhrtem_jax/run/1"
DAMAGED = ".damaged"
SCRATCH = ".scratch.npy"

_BEGINNINGS = re.compile(r"\.lock.*|\.manifest\.json\..*\.part")
"""What a run that was killed in its first moment leaves."""


class RunFolder:
    """A run folder; names are relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fingerprint = ""
        self._written: set[str] = set()  # files, and sub-folders with a manifest of their own
        self._sums: dict[str, dict[str, Any]] = {}

    @property
    def finished(self) -> bool:
        return (self.path / RESULT).is_file()

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Whether a run may use the folder; nothing is changed.

        **Raises:** `InputError` if it holds what no run wrote, or a result and neither option is
        set.
        """
        if resume and overwrite:
            raise InputError("resume=true and overwrite=true exclude each other")
        try:
            os.fspath(self.path).encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"hydra.run.dir: {os.fsencode(self.path)!r} is not UTF-8") from None
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"hydra.run.dir: {self.path} is a file, expected a folder")
        if not self.path.is_dir():
            return
        if not (self.path / MANIFEST).is_file():
            others = sorted(p.name for p in self.path.iterdir() if not _BEGINNINGS.match(p.name))
            if "fingerprint.txt" in others:
                raise InputError(
                    f"hydra.run.dir: {self.path} was written by an earlier version of this "
                    "program: name an empty or a new folder"
                )
            if others:
                raise InputError(
                    f"hydra.run.dir: {self.path} holds {_some(others)} and no {MANIFEST}, so no "
                    "run of this program wrote it: name an empty or a new folder"
                )
            return
        self._read_manifest()
        if self.finished and not (resume or overwrite):
            raise InputError(
                f"{self.path} already holds a {RESULT}: "
                "use overwrite=true to replace it, resume=true to keep it, or another hydra.run.dir"
            )

    def refuse_inputs(self, inputs: dict[str, Path]) -> None:
        """**Raises:** `InputError` if one of the `inputs` (by option) lies in the folder."""
        here = self.path.resolve()
        for option, path in inputs.items():
            there = place_of(path, option)
            if here in there.parents or here == there:
                raise InputError(
                    f"{option}: {path} lies in the run folder {self.path}, where it could be "
                    "overwritten: move it, or use another hydra.run.dir"
                )

    def prepare(self, fingerprint: str, resume: bool, overwrite: bool) -> bool:
        """Make the folder ready, and say whether there is anything left to do.

        `fingerprint` stands for settings and input files; a run is resumed only with its own.

        **Raises:** `InputError` if the folder belongs to other settings or input, or to nobody.
        """
        self.check(resume=resume, overwrite=overwrite)
        known = (self.path / MANIFEST).is_file()  # then `check` has read it
        if resume and known and self._fingerprint != fingerprint:
            raise InputError(
                f"resume: {self.path} belongs to a run with other settings or input files: "
                "repeat its command, or use another hydra.run.dir"
            )
        if resume and self.finished and self._is_whole():
            return False
        if not resume:
            self._clear()
        for name in (MANIFEST, *self._written):
            remove_parts(self.path / name)
        self.path.mkdir(parents=True, exist_ok=True)
        self._fingerprint = fingerprint
        self._write_manifest()
        return True

    def sub(self, name: str) -> "RunFolder":
        """The run folder of a part of this run."""
        self._own(name)
        path = self.path / name
        path.mkdir(exist_ok=True)
        return RunFolder(path)

    # Writing

    @contextlib.contextmanager
    def open(self, name: str, *, durable: bool = True) -> Iterator[BinaryIO]:
        """A file that is there when the block ends without an error."""
        self._own(name)
        with replacing(self._place(name), durable=durable) as file:
            yield file

    def write_text(self, name: str, text: str) -> None:
        with self.open(name) as file:
            file.write(text.encode("utf-8"))

    def write_result(self, result: dict[str, Any]) -> None:
        """`result.json`, which ends a run."""
        content = plain(result) | {FINGERPRINT: self._fingerprint, "files": dict(self._sums)}
        self.write_text(RESULT, json.dumps(sealed_json(content), indent=2, allow_nan=False) + "\n")

    def write_arrays(self, arrays: Arrays) -> None:
        """`arrays.npz`, compressed where it is not large."""
        with self.open(ARRAYS) as file:
            write_npz(file, arrays)
        self._sums[ARRAYS] = file_sum(self.path / ARRAYS)

    def room(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic]
    ) -> Shaped[np.ndarray, "..."]:
        """An array to be filled; a large one is a file of the folder until the run is done."""
        if not large(math.prod(shape) * np.dtype(dtype).itemsize):
            return np.empty(shape, dtype)
        self._own(name + SCRATCH)
        return on_disk(self._place(name + SCRATCH), shape, np.dtype(dtype))

    def write_checkpoint(self, arrays: Arrays) -> None:
        with self.open(CHECKPOINT) as file:
            owner = {FINGERPRINT: np.array(self._fingerprint)}
            np.savez(file, **sealed_arrays(arrays | owner))  # type: ignore[arg-type]

    def write_history(self, header: list[str], rows: list[list[Any]]) -> None:
        """`history.csv`; written at every step, so without waiting for the disk."""
        self.write_table("history", header, rows)

    def write_table(self, name: str, header: list[str], rows: list[list[Any]]) -> None:
        """`NAME.csv`."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)
        with self.open(f"{name}.csv", durable=False) as file:
            file.write(text.getvalue().encode("utf-8"))

    def write_structures(self, models: dict[str, AtomModel]) -> None:
        """structures/NAME.cel, .cif and .xyz of each of the models."""
        texts = {
            f"structures/{name}{suffix}": text
            for name, model in models.items()
            for suffix, text in model_texts(model).items()
        }
        self._own(*texts)
        for name, text in texts.items():
            with self.open(name, durable=False) as file:
                file.write(text.encode("utf-8"))

    def remove_checkpoint(self) -> None:
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def remove_scratch(self) -> None:
        """Files of arrays that are made no longer."""
        for name in self._written:
            if name.endswith(SCRATCH):
                with contextlib.suppress(OSError):  # Windows: as long as they are in use
                    (self.path / name).unlink(missing_ok=True)

    def figure_path(self, name: str) -> Path:
        """Where a figure is to be written, and its .pdf beside it."""
        self._own(f"figures/{name}.png", f"figures/{name}.pdf")
        return self._place(f"figures/{name}.png")

    # Reading

    def read_result(self) -> dict[str, Any]:
        """The result of a finished run.

        **Raises:** `DamagedError` if it is not as it was written.
        """
        content = read_json(self.path / RESULT)
        if CHECKSUM not in content or not isinstance(content.get("files"), dict):
            raise DamagedError(f"{self.path / RESULT} was written by no run")
        return content

    def read_arrays(self) -> Arrays:
        """Arrays of a finished run.

        **Raises:** `DamagedError` if they are not those that the result was written with.
        """
        self.check_arrays()
        return read_own_npz(self.path / ARRAYS)

    def check_arrays(self) -> None:
        """**Raises:** `DamagedError` if `arrays.npz` is not what the result was written with."""
        path, known = self.path / ARRAYS, self.read_result()["files"].get(ARRAYS)
        if not path.is_file() or not is_as_summed(path, known):
            raise DamagedError(f"{path} is not as it was written: its checksum differs")

    def read_checkpoint(self) -> Arrays | None:
        """Arrays of an interrupted run, or None; a damaged checkpoint is set aside."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        try:
            arrays = read_own_npz(path, sealed=True)
            if str(arrays.pop(FINGERPRINT, None)) != self._fingerprint:
                raise DamagedError(f"{path} belongs to another run")
            return arrays
        except DamagedError as error:
            log.warning("%s: starting afresh", error)
            self._set_aside(CHECKPOINT)
            return None

    # What is the run's own

    def _is_whole(self) -> bool:
        """Whether the result, and those of the parts, can be believed; what cannot is set aside,
        and the run starts anew."""
        try:
            result = self.read_result()
            if result.get(FINGERPRINT) != self._fingerprint:
                raise DamagedError(f"{self.path / RESULT} belongs to another run")
            if ARRAYS in result["files"]:
                self.check_arrays()
            whole = True
        except InputError as error:
            log.warning("%s: starting afresh", error)
            whole = False
        parts = [part for part in self._parts() if part.finished]
        if not all([whole, *(part._is_whole() for part in parts)]):
            self._set_aside(RESULT)
            return False
        return True

    def _set_aside(self, name: str) -> None:
        self._own(name + DAMAGED)
        os.replace(self.path / name, self.path / (name + DAMAGED))
        log.warning("%s: set aside as %s", self.path / name, name + DAMAGED)

    def _parts(self) -> list["RunFolder"]:
        """Sub-folders with a manifest of their own, which is read."""
        found = []
        for name in sorted(self._written):
            folder = RunFolder(self.path / name)
            if (folder.path / MANIFEST).is_file() and not folder.path.is_symlink():
                folder._read_manifest()
                found.append(folder)
        return found

    def _own(self, *names: str) -> None:
        """Enter files or sub-folders into the manifest, before they are written.

        **Raises:** `InputError` if something of that name is there that no run wrote.
        """
        if not self._written and (self.path / MANIFEST).is_file():
            self._read_manifest()
        new = [name for name in names if name not in self._written]
        for name in new:
            there = self.path / name
            if os.path.lexists(there) and (there.is_symlink() or not there.is_dir()):
                raise InputError(f"{there} is there, but no run wrote it: move it away")
        if new:
            self._written.update(new)
            self._write_manifest()

    def _place(self, name: str) -> Path:
        """Where the file `name` is to be written; its folder is made."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self._inside(target):
            raise InputError(f"{target.parent} leads out of the run folder: remove the link")
        return target

    def _inside(self, target: Path) -> bool:
        """Whether the folder of `target` is in this one, links followed."""
        here, folder = self.path.resolve(), target.parent.resolve()
        return folder == here or here in folder.parents

    def _read_manifest(self) -> None:
        file = self.path / MANIFEST
        advice = "use another hydra.run.dir, or empty the folder yourself"
        try:
            content = read_json(file)
        except DamagedError:
            raise DamagedError(f"{file} is damaged: {advice}") from None
        names = content.get("written")
        known = content.get("schema") == FOLDER_SCHEMA and CHECKSUM in content
        if not known or not isinstance(names, list) or not all(map(_is_plain_name, names)):
            raise DamagedError(f"{file} is no manifest of a run: {advice}")
        self._fingerprint, self._written = str(content.get("fingerprint")), set(names)

    def _write_manifest(self) -> None:
        content = {
            "schema": FOLDER_SCHEMA,
            "fingerprint": self._fingerprint,
            "written": sorted(self._written),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.path / MANIFEST) as file:
            file.write((json.dumps(sealed_json(content), indent=1) + "\n").encode("utf-8"))

    def _clear(self) -> None:
        """Remove what earlier runs wrote, and folders that are empty then."""
        parts = self._parts()  # all manifests are read before anything is removed
        for name in sorted(self._written, key=lambda n: n != RESULT):  # no result without the rest
            target = self.path / name
            if (target.is_dir() and not target.is_symlink()) or not self._inside(target):
                continue
            remove_parts(target)
            target.unlink(missing_ok=True)
            if target.parent != self.path:
                _remove_if_empty(target.parent)
        for part in parts:
            part._clear()
            (part.path / MANIFEST).unlink()
            _remove_if_empty(part.path)
        self._written, self._sums = set(), {}


def read_json(file: Path) -> dict[str, Any]:
    """An object that this program wrote.

    **Raises:** `DamagedError` that names the file.
    """
    try:
        return read_object(file, "run folder")
    except InputError as error:
        raise DamagedError(str(error)) from None


def _is_plain_name(name: object) -> bool:
    """Whether `name` is the path of something below a folder."""
    if not isinstance(name, str) or Path(name).is_absolute():
        return False
    if len(name.encode(errors="replace")) > 4096 or not name.isprintable():
        return False
    parts = Path(name).parts
    return bool(parts) and ".." not in parts and name != MANIFEST


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
