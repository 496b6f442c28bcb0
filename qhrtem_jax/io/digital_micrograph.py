"""Images from DigitalMicrograph's .dm3 and .dm4: a tree of tags, of which only what an image needs
is kept, and whose counts are checked against the file before anything is read.

The layout: G. Jefferis, https://imagej.net/ij/plugins/DM3Format.gj.html; .dm4 counts with 64 bits
and gives the size of every tag.
"""

import dataclasses
import math
import struct
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import check_declared

_GROUP, _DATA = 20, 21
_NUMBERS = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1", 10: "u1"}
_NUMBERS |= {11: "i8", 12: "u8"}
_STRUCT, _TEXT, _ARRAY = 15, 18, 20
_COLOURS = (8, 23)
"""Kinds of images, by their `DataType`, that are pictures."""

_MOST_TAGS = 100_000
_DEEPEST = 64
_LONGEST = 64
"""Letters of a unit."""

_ROOTS = ("ImageList", "Thumbnails")
"""What is kept of the file's tags."""

Tree = dict[str | int, Any]
"""Tags by name; those without one by their number. Values are numbers, arrays of numbers (texts
among them) that are not read yet, trees; None where a value is not kept."""


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Numbers that lie in the file."""

    at: int
    dtype: np.dtype
    count: int


def read_digital_micrograph(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first image of a file that is no thumbnail: (rows, cols), a stack (frames, rows, cols).

    **Raises:** `InputError` for a tree of tags that is not as declared, or without such an image.
    """
    image, where = _first_image(path, option)
    sizes = image.get("Dimensions")
    shape = [n for n in _in_order(sizes) if isinstance(n, int)][::-1]
    stored = image.get("Data")
    if image.get("DataType") in _COLOURS:
        raise InputError(f"{where} is a picture in colours, expected the intensities themselves")
    if not isinstance(stored, _Stored):
        raise InputError(f"{where} holds no real intensities")
    check_declared(where, (stored.count,), stored.dtype, file_size(path, option) - stored.at)
    count = math.prod(shape)
    if not shape or count != stored.count:
        raise InputError(f"{where} holds {stored.count} pixels, expected {count} of {shape}")
    return np.fromfile(path, stored.dtype, count, offset=stored.at).reshape(shape)


def digital_micrograph_calibration(path: Path) -> tuple[tuple[float, str], tuple[float, str]]:
    """((size of a pixel, unit) along rows, the same along columns).

    **Raises:** `InputError` as `read_digital_micrograph`; `KeyError` or `TypeError` where the file
    says nothing of it.
    """
    image, _ = _first_image(path, "image")
    along, down = _in_order(image["Calibrations"]["Dimension"])[:2]
    found = [(float(axis["Scale"]), _text(path, axis["Units"])) for axis in (down, along)]
    return found[0], found[1]


def _text(path: Path, letters: _Stored) -> str:
    return "".join(
        map(chr, np.fromfile(path, letters.dtype, min(letters.count, _LONGEST), offset=letters.at))
    )


def _first_image(path: Path, option: str) -> tuple[Tree, str]:
    """(the `ImageData` of the first image that is no thumbnail, option and file)."""
    size, where = file_size(path, option), f"{option}: {path}"
    with path.open("rb") as file:
        tags = _Walk(file, size, where).root()
    thumbnails = {
        t.get("ImageIndex") for t in _in_order(tags.get("Thumbnails")) if isinstance(t, dict)
    }
    images = [
        entry["ImageData"]
        for index, entry in enumerate(_in_order(tags.get("ImageList")))
        if isinstance(entry, dict)
        and isinstance(entry.get("ImageData"), dict)
        and index not in thumbnails
    ]
    if not images:
        raise InputError(f"{where} cannot be read (it lacks an ImageList with an image)")
    return images[0], where


def _in_order(tree: Any) -> list[Any]:
    """Tags of a group one after the other."""
    return list(tree.values()) if isinstance(tree, dict) else []


class _Walk:
    """Passes over the tags of a file, and refuses what does not lie within it."""

    def __init__(self, file: IO[bytes], size: int, where: str) -> None:
        self.file, self.size, self.where = file, size, where
        self.long = ">i"
        self.order = "<"
        self.version = 3
        self.tags = 0

    def root(self) -> Tree:
        self.version = self.number(">i")
        if self.version not in (3, 4):
            self.refuse(f"version {self.version}, expected 3 or 4")
        self.long = ">q" if self.version == 4 else ">i"
        self.number(self.long)
        self.order = "<" if self.number(">i") == 1 else ">"
        return self.group(0, sized=False, kept=True)

    def group(self, depth: int, *, sized: bool, kept: bool) -> Tree:
        if depth > _DEEPEST:
            self.refuse(f"groups of tags deeper than {_DEEPEST}")
        self.skip(2)
        if sized and self.version == 4:
            self.number(self.long)
        tree: Tree = {}
        for index in range(self.count()):
            self.tags += 1
            if self.tags > _MOST_TAGS:
                self.refuse(f"more than {_MOST_TAGS} tags")
            kind, length = self.number(">b"), self.number(">h")
            name = self.read(self.within(length)).decode("latin-1") or index
            mine = kept and (depth > 0 or name in _ROOTS)
            if kind == _GROUP:
                value = self.group(depth + 1, sized=True, kept=mine)
            elif kind == _DATA:
                value = self.data(mine)
            else:
                self.refuse(f"a tag of kind {kind}, expected {_GROUP} or {_DATA}")
            if mine:
                tree[name] = value
        return tree

    def data(self, kept: bool) -> Any:
        """The value of a tag, or None where it is of no use."""
        if self.version == 4:
            self.skip(8)
        if self.read(4) != b"%%%%":
            self.refuse("a tag without its mark %%%%")
        length, kind = self.count(), self.number(self.long)
        if length == 1:
            dtype, many, size = self.dtype(kind), None, None
        elif length == 2:  # a text: its kind, its bytes
            dtype, many, size = None, self.count(), 1
        elif kind == _STRUCT:
            dtype, many, size = None, 1, self.structure()
        else:
            dtype, many, size = self.array(length)
        size = dtype.itemsize if dtype is not None else size
        if size is None or size < 1:
            self.refuse(f"a tag of numbers of kind {kind}")
        at = self.file.tell()
        self.skip(self.within((1 if many is None else many) * size))
        if not kept or dtype is None:
            return None
        if many is None:
            return self.value(at, dtype)
        return _Stored(at, dtype, many)

    def array(self, length: int) -> tuple[np.dtype | None, int, int | None]:
        """(numbers of an array of `length` describing numbers, how many; or, where they are no
        plain ones, the bytes of each)."""
        kind = self.number(self.long)
        if length == 3:
            return self.dtype(kind), self.count(), None
        if kind == _STRUCT:
            size = self.structure()
        elif kind == _TEXT:
            size = self.count()
        elif kind == _ARRAY:
            inner, many = self.dtype(self.number(self.long)), self.count()
            size = None if inner is None else inner.itemsize * many
        else:
            size = None
        return None, self.count(), size

    def structure(self) -> int | None:
        """Bytes of a structure."""
        self.number(self.long)
        kinds = []
        for _ in range(self.count()):
            self.number(self.long)
            kinds.append(self.dtype(self.number(self.long)))
        return None if None in kinds else sum(kind.itemsize for kind in kinds if kind is not None)

    def dtype(self, kind: int) -> np.dtype | None:
        known = _NUMBERS.get(kind)
        return None if known is None else np.dtype(self.order + known)

    def value(self, at: int, dtype: np.dtype) -> int | float:
        end = self.file.tell()
        self.file.seek(at)
        content = self.read(dtype.itemsize)
        self.file.seek(end)
        return np.frombuffer(content, dtype)[0].item()

    def count(self) -> int:
        return self.within(self.number(self.long))

    def within(self, count: int) -> int:
        if not 0 <= count <= self.size - self.file.tell():
            self.refuse(f"a tag that counts {count}, more than the file holds")
        return count

    def number(self, form: str) -> int:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def read(self, count: int) -> bytes:
        content = self.file.read(count)
        if len(content) < count:
            self.refuse("it ends within a tag")
        return content

    def skip(self, count: int) -> None:
        if self.file.seek(count, 1) > self.size:
            self.refuse("it ends within a tag")

    def refuse(self, found: str) -> NoReturn:
        raise InputError(f"{self.where} cannot be read ({found})")
