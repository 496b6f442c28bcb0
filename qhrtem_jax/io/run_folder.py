"""The folder of a run: written so that a killed run leaves a readable folder.

Every file is written under another name and then renamed, so it is whole or absent; `result.json`
comes last and marks the run as done.
"""

import csv
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.models import write_model
from qhrtem_jax.physics.specimen import Atoms

RESULT = "result.json"
FINGERPRINT = "fingerprint.txt"
SCHEMA = "qhrtem_jax/result/1"


class RunFolder:
    """A run folder; all paths are relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        return (self.path / RESULT).is_file()

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Whether a run may use the folder; nothing is changed.

        **Raises:** `InputError` if it already holds a result and neither option is set.
        """
        if resume and overwrite:
            raise InputError("resume=true and overwrite=true exclude each other")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"hydra.run.dir: {self.path} is a file, expected a folder")
        if self.finished and not (resume or overwrite):
            raise InputError(
                f"{self.path} already holds a {RESULT}: "
                "use overwrite=true to replace it, resume=true to keep it, or another hydra.run.dir"
            )

    def prepare(self, fingerprint: str, resume: bool, overwrite: bool) -> bool:
        """Make the folder ready, and say whether there is anything left to do.

        `fingerprint` stands for settings and input files; a run is resumed only with its own.

        **Raises:** `InputError` if the folder belongs to other settings or input.
        """
        known = self.path / FINGERPRINT
        if resume and known.is_file() and known.read_text(encoding="utf-8").strip() != fingerprint:
            raise InputError(
                f"resume: {self.path} belongs to a run with other settings or input files: "
                "repeat its command, or use another hydra.run.dir"
            )
        if resume and self.finished:
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (RESULT, "checkpoint.npz", "history.csv", "arrays.npz", "report.html"):
                (self.path / name).unlink(missing_ok=True)
            for name in ("figures", "structures"):
                shutil.rmtree(self.path / name, ignore_errors=True)
        self.write_text(FINGERPRINT, fingerprint + "\n")
        return True

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(_plain(content), indent=2, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        target = self._target(name)
        scratch = target.with_name(target.name + ".part")
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, target)

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray], compress: bool = True) -> None:
        target = self._target(name)
        scratch = target.with_name("part-" + target.name)
        (np.savez_compressed if compress else np.savez)(scratch, **arrays)  # type: ignore[arg-type]
        os.replace(scratch, target)

    def read_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays of an .npz file, or None if it is absent."""
        path = self.path / name
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}

    def write_table(self, name: str, header: list[str], rows: list[list[Any]]) -> None:
        target = self._target(name)
        scratch = target.with_name(target.name + ".part")
        with scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        os.replace(scratch, target)

    def write_structure(
        self, name: str, size_nm: tuple[float, float, float], atoms: Atoms, comment: str
    ) -> None:
        """structures/NAME.cel, .cif and .xyz."""
        write_model(self._target(f"structures/{name}.cel"), size_nm, atoms, comment)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def figure_path(self, name: str) -> Path:
        return self._target(f"figures/{name}.png")

    def _target(self, name: str) -> Path:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _plain(value: Any) -> Any:
    """JSON types; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if hasattr(value, "tolist"):  # a JAX array
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
