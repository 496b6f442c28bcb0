"""Arrays from .npy and .npz files whose headers are checked first."""

import io
import struct
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size, reading
from qhrtem_jax.io.image_size import MOST_COMPRESSION, check_declared

_HEAD = 16384
"""Bytes within which a header ends; numpy itself refuses one of more than 10000."""

_MOST_DIRECTORY = 2**20
"""Bytes of a zip file's directory: some ten thousand arrays."""

_END = struct.Struct("<4s4H2LH")  # a zip file's end record
_END_MAGIC = b"PK\5\6"


def read_npy(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The array of a .npy file.

    **Raises:** `InputError` for one that is damaged, or not as declared.
    """
    size = file_size(path, option)
    with reading(path, option), path.open("rb") as file:
        head = file.read(_HEAD)
        shape, dtype, start = _header(head)
        check_declared(f"{option}: {path}", shape, dtype, size - start)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, option: str, name: str) -> Shaped[np.ndarray, "..."]:
    """The array `name` of an .npz file, or its only one.

    **Raises:** `InputError` for one that is damaged, or not as declared.
    """
    file_size(path, option)
    with reading(path, option), path.open("rb") as file:
        _check_directory(file, f"{option}: {path}")
        with zipfile.ZipFile(file) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            if name not in names and len(names) != 1:
                raise InputError(
                    f"{option}: {path} holds {_some(names)}, expected an array named {name!r}"
                )
            index = names.index(name) if name in names else 0
            return _read_member(archive, archive.infolist()[index], f"{option}: {path}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    where = f"{where}, array {member.filename.removesuffix('.npy')!r},"
    # zipfile unpacks these two piecewise; of the others a few bytes fill the memory
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where} is compressed in another way than numpy does")
    with archive.open(member) as stream:
        head = stream.read(_HEAD)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise InputError(f"{where} is no array")
    shape, dtype, start = _header(head)
    size = check_declared(where, shape, dtype, member.compress_size, MOST_COMPRESSION)
    if member.file_size != start + size:
        raise InputError(f"{where} has {member.file_size} bytes, expected {start + size}")
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _header(head: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and end of the header with which a file begins."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    reader = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = reader(stream)
    return shape, dtype, stream.tell()


def _check_directory(file: IO[bytes], where: str) -> None:
    """Refuses a directory that would fill the memory: zipfile reads it whole."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(end - 2**16 - _END.size, 0))
    tail = file.read()
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) < at + _END.size:
        raise InputError(f"{where} is no .npz file, or cut off")
    size = _END.unpack_from(tail, at)[5]
    if size > _MOST_DIRECTORY:
        raise InputError(f"{where} has a directory of {size} bytes, expected an .npz file")
    file.seek(0)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"[{shown}, ... {len(names)} in all]" if len(names) > 8 else f"[{shown}]"
