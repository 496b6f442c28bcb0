"""Checksums that files carry, so that the next reader believes them only as they were written."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import DamagedError

CHECKSUM = "checksum"

Arrays = dict[str, Shaped[np.ndarray, "..."]]
"""Arrays by name, as files hold them."""


def sealed_json(content: dict[str, Any]) -> dict[str, Any]:
    """`content` (of JSON types) with its checksum."""
    return content | {CHECKSUM: _of_json(content)}


def check_json(content: dict[str, Any], file: Path) -> None:
    """Whether a JSON object is as it was written; one without a checksum is somebody's own.

    **Raises:** `DamagedError` that names the file.
    """
    if CHECKSUM in content and content[CHECKSUM] != _of_json(content):
        raise DamagedError(
            f"{file} is not as it was written: its checksum differs. Run its stage again, or, if "
            f"you changed it on purpose, remove the entry {CHECKSUM!r}"
        )


def _of_json(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def sealed_arrays(arrays: Arrays) -> Arrays:
    """`arrays` with their checksum, a vector of 32 bytes."""
    return arrays | {CHECKSUM: _of_arrays(arrays)}


def read_own_npz(path: Path, *, sealed: bool = False) -> Arrays:
    """All arrays of an .npz file that this package wrote; `sealed`: with their checksum verified.

    **Raises:** `DamagedError` that names the file, for whatever is wrong with it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            # ours are stored as they are: what says it unpacks to more is not
            members = content.zip.infolist() if sealed else []
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("its arrays are compressed")
            arrays = {str(name): np.asarray(content[name]) for name in content.files}
    except (MemoryError, PermissionError):  # nothing is wrong with the file
        raise
    # zip, zlib, header and pickle errors are of a dozen kinds; they all mean a damaged file
    except Exception as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if sealed:
        known = arrays.pop(CHECKSUM, None)
        if known is None or not np.array_equal(known, _of_arrays(arrays)):
            raise _damaged(path, "its checksum differs")
    return arrays


def file_sum(path: Path) -> dict[str, Any]:
    """What a file is recognised by."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def is_as_summed(path: Path, known: object) -> bool:
    """Whether a file is the one of that sum; of another size, it is not even read."""
    if not isinstance(known, dict) or known.get("bytes") != path.stat().st_size:
        return False
    return known.get("sha256") == sha256(path)


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_arrays(arrays: Arrays) -> np.ndarray:
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        total.update(array.tobytes())
    return np.frombuffer(total.digest(), np.uint8)


def _damaged(path: Path, why: str) -> DamagedError:
    return DamagedError(f"{path} is damaged ({why})")
