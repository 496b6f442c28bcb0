"""Images from TIA's .ser: a header, and elements of one calibration and one image each.

The layout: C. Boothroyd and P. Van den Broek, "TIA series data (.ser) file format", as
http://www.er-c.org/cbb/info/TIAformat/ gives it; all numbers are little-endian.
"""

import struct
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import check_declared

_HEAD = struct.Struct("<HHHIIII")
_MARKS = (0x4949, 0x0197)
_IMAGES = 0x4122
_WIDE = 0x0220
"""From this version on, places in the file have 64 bits."""

_ELEMENT = struct.Struct("<ddiddiHII")
_NUMBERS = ("", "u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")


def read_ser(path: Path, option: str) -> Shaped[np.ndarray, "frames rows cols"]:
    """The images of a file, one after the other, the first row at the top (it stores the last row
    first).

    **Raises:** `InputError` for one that is not as declared, or holds no images.
    """
    size, where = file_size(path, option), f"{option}: {path}"
    with path.open("rb") as file:
        places = _places(file, size, where)
        heads = [_element(file, at, where) for at in places]
        dtype, rows, cols = heads[0][:3]
        if any(head[:3] != (dtype, rows, cols) for head in heads):
            raise InputError(f"{where} holds images of several sizes, expected one")
        stored = size - _HEAD.size
        check_declared(where, (len(places), rows, cols), dtype, stored)
        frames = np.empty((len(places), rows, cols), dtype)
        for frame, at in zip(frames, places, strict=True):
            file.seek(at + _ELEMENT.size)
            content = file.read(frame.nbytes)
            if len(content) < frame.nbytes:
                _refuse(where, "it ends within an image")
            frame[:] = np.frombuffer(content, dtype).reshape(rows, cols)[::-1]
    return frames


def ser_calibration(path: Path) -> tuple[tuple[float, str], tuple[float, str]]:
    """((size of a pixel, unit) along rows, the same along columns).

    **Raises:** `InputError` as `read_ser`.
    """
    where = str(path)
    with path.open("rb") as file:
        places = _places(file, file_size(path, "image"), where)
        _, _, _, down, along = _element(file, places[0], where)
    return (abs(down), "m"), (abs(along), "m")


def _places(file: IO[bytes], size: int, where: str) -> list[int]:
    """Where the elements of a file lie."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or _HEAD.unpack(head)[:2] != _MARKS:
        _refuse(where, "it is no .ser file, or cut off")
    _, _, version, kind, _, _, count = _HEAD.unpack(head)
    if kind != _IMAGES:
        raise InputError(f"{where} holds spectra (kind {kind:#x}), expected images")
    form = "<Q" if version >= _WIDE else "<I"
    (table,) = struct.unpack(form, _read(file, struct.calcsize(form), where))
    width = struct.calcsize(form)
    if count < 1 or table + count * width > size:
        _refuse(where, f"it declares {count} images, more than it holds")
    file.seek(table)
    places = list(struct.unpack(f"<{count}{form[1]}", _read(file, count * width, where)))
    if any(not 0 < at < size - _ELEMENT.size for at in places):
        _refuse(where, "an image lies beyond its end")
    return places


def _element(file: IO[bytes], at: int, where: str) -> tuple[np.dtype, int, int, float, float]:
    """(numbers, rows, columns, size of a pixel along rows and along columns, in m) of an image."""
    file.seek(at)
    _, along, _, _, down, _, kind, cols, rows = _ELEMENT.unpack(_read(file, _ELEMENT.size, where))
    if not 1 <= kind < len(_NUMBERS):
        raise InputError(f"{where} holds numbers of kind {kind}, expected real intensities")
    return np.dtype("<" + _NUMBERS[kind]), rows, cols, down, along


def _read(file: IO[bytes], count: int, where: str) -> bytes:
    content = file.read(count)
    if len(content) < count:
        _refuse(where, "it is cut off")
    return content


def _refuse(where: str, found: str) -> NoReturn:
    raise InputError(f"{where} cannot be read ({found})")
