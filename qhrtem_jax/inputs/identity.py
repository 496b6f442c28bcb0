"""Which run this is: its input files, the fingerprint of all that its result depends on."""

import dataclasses
import hashlib
import json
from pathlib import Path

from qhrtem_jax.errors import InputError, raise_all
from qhrtem_jax.inputs.handover import HANDED_OVER, content_digest
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.images import FOLDERS
from qhrtem_jax.io.run_folder import RESULT
from qhrtem_jax.io.seal import sha256

LARGEST_INPUT = 4 * 2**30
"""Bytes of a file, all of which are read for its checksum."""

NO_IDENTITY = ("resume", "overwrite", "device", "cores", "memory_gb", "engine")
"""Options that change how a result is found, not what it is."""


def input_paths(settings: Settings) -> dict[str, Path]:
    """Every file or folder that the settings name as input, by option."""
    paths = {}
    for field in dataclasses.fields(settings):
        group = getattr(settings, field.name)
        for name in getattr(group, "INPUTS", ()):
            path = getattr(group, name)
            if isinstance(path, tuple):
                paths |= {f"{field.name}.{name}[{k}]": Path(one) for k, one in enumerate(path)}
            elif path is not None:
                paths[f"{field.name}.{name}"] = Path(path)
    return paths


def check_inputs(settings: Settings) -> None:
    """Refuse, all at once, the inputs that are not there.

    **Raises:** `InputError` that names each.
    """
    faults = []
    for option, path in input_paths(settings).items():
        try:
            if not path.is_dir():  # each kind of folder is looked into by who reads it
                file_size(path, option)
        except InputError as error:
            faults.append(error)
    raise_all(faults)


def input_files(settings: Settings, reader: Reader) -> dict[str, dict[str, str]]:
    """Name and SHA-256 of every input file, by option."""
    files = input_paths(settings)
    files = {o: p / RESULT if p.is_dir() and o in HANDED_OVER else p for o, p in files.items()}
    return {
        option: {
            "name": path.name,
            "sha256": reader.once(("sha256", path), lambda p=path, o=option: _sha256(p, o)),
        }
        for option, path in files.items()
    }


def _sha256(path: Path, option: str) -> str:
    if path.is_dir() and path.suffix.lower() in FOLDERS:
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        names = [[str(part.relative_to(path)), _sha256(part, option)] for part in parts]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()
    size = file_size(path, option)  # refuses what would block
    if size > LARGEST_INPUT:
        raise InputError(f"{option}: {path} has {size} bytes, expected at most {LARGEST_INPUT}")
    return sha256(path)


def fingerprint(settings: Settings, reader: Reader) -> str:
    """Stands for everything that the result depends on: settings and contents of files; of a
    result that is handed over, what is used of it, not when or how fast it was found."""
    plain = dataclasses.asdict(settings)
    for name in NO_IDENTITY:
        del plain[name]
    for field in dataclasses.fields(settings):
        group = getattr(settings, field.name)
        for classes in ("INPUTS", "OUTPUTS", "NO_IDENTITY"):
            for name in getattr(group, classes, ()):
                del plain[field.name][name]
    contents = {o: file["sha256"] for o, file in input_files(settings, reader).items()}
    for option, path in input_paths(settings).items():
        if option in HANDED_OVER:
            key = ("digest", path, option)
            contents[option] = reader.once(key, lambda p=path, o=option: content_digest(p, o))
    text = json.dumps([plain, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
