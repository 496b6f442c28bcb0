"""Images from DigitalMicrograph's .dm3 and .dm4, whose tree of tags is walked before RosettaSciIO
builds it: a count in it may ask for any amount of memory and time.

The layout: G. Jefferis, https://imagej.net/ij/plugins/DM3Format.gj.html; .dm4 counts with 64 bits
and gives the size of every tag.
"""

import math
import struct
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import MOST_PIXELS

_GROUP, _DATA = 20, 21
_SIZES = {2: 2, 3: 4, 4: 2, 5: 4, 6: 4, 7: 8, 8: 1, 9: 1, 10: 1, 11: 8, 12: 8}
_STRUCT, _TEXT, _ARRAY = 15, 18, 20
_MOST_TAGS = 100_000
_DEEPEST = 64
_MOST_LISTED = 2**21
"""Numbers outside of images, which the library reads one by one."""


def read_digital_micrograph(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first image of a file that is no thumbnail.

    **Raises:** `InputError` for a tree of tags that is not as declared, or without the extra
    `formats`; the library's errors for a damaged file.
    """
    try:
        from rsciio.digitalmicrograph import file_reader  # GPL, therefore an extra
    except ImportError:
        raise InputError(
            f"{option}: reading {path} needs RosettaSciIO: pip install 'qhrtem_jax[formats]'"
        ) from None
    size = file_size(path, option)
    with path.open("rb") as file:
        _Walk(file, size, f"{option}: {path}").root()
    return np.asarray(file_reader(str(path))[0]["data"])


class _Walk:
    """Passes over the tags of a file, and refuses what does not lie within it."""

    def __init__(self, file: IO[bytes], size: int, where: str) -> None:
        self.file, self.size, self.where = file, size, where
        self.long = ">i"
        self.version = 3
        self.tags = self.listed = 0
        self.has_images = False

    def root(self) -> None:
        self.version = self.number(">i")
        if self.version not in (3, 4):
            self.refuse(f"version {self.version}, expected 3 or 4")
        self.long = ">q" if self.version == 4 else ">i"
        self.number(self.long)
        self.number(">i")
        self.group(0, sized=False, images=False)
        if not self.has_images:
            self.refuse("it lacks an ImageList")

    def group(self, depth: int, *, sized: bool, images: bool) -> None:
        if depth > _DEEPEST:
            self.refuse(f"groups of tags deeper than {_DEEPEST}")
        self.skip(2)
        if sized and self.version == 4:
            self.number(self.long)
        count = self.count()
        for _ in range(count):
            self.tags += 1
            if self.tags > _MOST_TAGS:
                self.refuse(f"more than {_MOST_TAGS} tags")
            kind, length = self.number(">b"), self.number(">h")
            name = self.read(self.within(length)).replace(b".", b"")
            if kind == _GROUP:
                self.has_images |= depth == 0 and name == b"ImageList"
                self.group(depth + 1, sized=True, images=name == b"ImageData")
            elif kind == _DATA:
                self.data(skipped=images and name == b"Data")
            else:
                self.refuse(f"a tag of kind {kind}, expected {_GROUP} or {_DATA}")

    def data(self, *, skipped: bool) -> None:
        if self.version == 4:
            self.skip(8)
        if self.read(4) != b"%%%%":
            self.refuse("a tag without its mark %%%%")
        length, kind = self.count(), self.number(self.long)
        if length == 1:
            items, size = 1, _SIZES.get(kind)
        elif length == 2:
            items, size = self.count(), 1
        elif kind == _STRUCT:
            items, size = 1, self.structure()
        else:
            items, size = self.array(length)
        if size is None or size < 1:
            self.refuse(f"a tag of numbers of kind {kind}")
        if skipped and items > MOST_PIXELS:
            self.refuse(f"an image of {items} pixels, expected at most {MOST_PIXELS}")
        if not skipped:
            self.listed += items if size <= 8 else math.ceil(items * size / 2)
            if self.listed > _MOST_LISTED:
                self.refuse(f"more than {_MOST_LISTED} numbers outside of images")
        self.skip(self.within(items * size))

    def array(self, length: int) -> tuple[int, int | None]:
        """(items, bytes of one) of an array of `length` describing numbers."""
        kind = self.number(self.long)
        if length == 3:
            return self.count(), _SIZES.get(kind)
        if kind == _STRUCT:
            size = self.structure()
        elif kind == _TEXT:
            size = self.count()
        elif kind == _ARRAY:
            inner, many = _SIZES.get(self.number(self.long)), self.count()
            size = None if inner is None else inner * many
        else:
            size = None
        return self.count(), size

    def structure(self) -> int | None:
        """Bytes of a structure."""
        self.number(self.long)
        sizes = []
        for _ in range(self.count()):
            self.number(self.long)
            sizes.append(_SIZES.get(self.number(self.long)))
        return None if None in sizes else sum(size for size in sizes if size)

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
