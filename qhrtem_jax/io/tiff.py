"""Images from TIFF files, whose directories are walked before tifffile follows them."""

import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import MOST_COMPRESSION, MOST_PIXELS, check_declared

_MOST_PAGES = 4096
_MOST_TAGS = 512
_MOST_VALUES = 2**20
"""Values of a tag of numbers; the strips of the largest image are 16384."""

_TYPE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_SIZE |= {16: 8, 17: 8, 18: 8}
_TEXT = (1, 2, 6, 7)

_WIDTH, _LENGTH = 256, 257

_COMPRESSION = {1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
"""The ones whose output is bounded by what they read."""

_DEFLATE = (8, 32946)

_COLOURS = {2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}


def read_tiff(path: Path, option: str) -> Shaped[np.ndarray, "frames rows cols"]:
    """The images of a TIFF file that are alike; smaller pages behind them (thumbnails) are passed
    over.

    **Raises:** `InputError` for one that is not as declared; tifffile's errors for a damaged file.
    """
    import tifffile

    size = file_size(path, option)
    where = f"{option}: {path}"
    with path.open("rb") as file:
        pages = _walk(file, size, where)
    alike = [k for k, page in enumerate(pages) if page == pages[0]]
    # is_ome: its metadata may name further files
    with tifffile.TiffFile(path, is_ome=False) as file:
        first: Any = file.pages.first
        _check_page(first, size, where)
        depth = _announced(file)
        if depth > 1 and len(alike) == 1:  # ImageJ lays large stacks behind their first page
            return _behind(path, first, depth, size, where)
        check_declared(where, (len(alike), *first.shape), first.dtype, size, MOST_COMPRESSION)
        frames = []
        for k in alike:
            page: Any = file.pages[k]
            _check_page(page, size, where)
            if page.dtype != first.dtype:
                raise InputError(f"{where} holds images of several kinds of numbers")
            if int(page.compression) in _DEFLATE:
                _check_segments(file.filehandle, page, where)
            frames.append(page.asarray())
    return np.stack(frames)


def _behind(path: Path, page: Any, depth: int, size: int, where: str) -> np.ndarray:
    """A stack whose frames follow each other without pages of their own."""
    if int(page.compression) != 1 or not page.is_contiguous:
        raise InputError(f"{where} announces {depth} images and holds one")
    shape, start = (depth, *page.shape), int(page.dataoffsets[0])
    check_declared(where, shape, page.dtype, size - start)
    order = page.parent.byteorder + page.dtype.str[1:]
    found = np.fromfile(path, order, depth * page.size, offset=start)
    return found.reshape(shape).astype(page.dtype)


def _check_page(page: Any, size: int, where: str) -> None:
    if page.dtype is None or len(page.shape) != 2:
        raise InputError(
            f"{where} has shape {page.shape} ({_COLOURS.get(int(page.photometric), 'grey')}), "
            "expected rows and columns of one intensity"
        )
    if int(page.photometric) in _COLOURS:
        raise InputError(
            f"{where} is a picture in colours ({_COLOURS[int(page.photometric)]}), "
            "expected the intensities themselves"
        )
    kind = int(page.compression)
    if kind not in _COMPRESSION:
        raise InputError(
            f"{where} is compressed by {getattr(page.compression, 'name', kind)}, expected one of "
            "none, LZW, deflate, PackBits: save it without compression"
        )
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts):
        raise InputError(f"{where} has {len(offsets)} strips and {len(counts)} sizes of strips")
    stored = 0
    for offset, count in zip(offsets, counts, strict=True):
        if offset + count > size:
            raise InputError(f"{where} is cut off: a strip ends at byte {offset + count} of {size}")
        stored += count
    tile = page.tilelength * page.tilewidth if page.is_tiled else 0
    if tile > MOST_PIXELS:
        raise InputError(f"{where} declares tiles of {tile} pixels, expected at most {MOST_PIXELS}")
    # overlapping strips do not make the file longer
    check_declared(
        where, page.shape, page.dtype, min(stored, size), 1.0 if kind == 1 else MOST_COMPRESSION
    )


def _check_segments(file: Any, page: Any, where: str) -> None:
    """Refuses strips that unpack to more than they declare: zlib would unpack them whole."""
    rows, cols = page.shape
    if page.is_tiled:
        rows, cols = page.tilelength, page.tilewidth
    elif page.rowsperstrip:
        rows = min(rows, page.rowsperstrip)
    declared = rows * cols * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count * MOST_COMPRESSION <= declared:
            continue
        file.seek(offset)
        packed, left = file.read(count), declared
        unpack = zlib.decompressobj()
        while packed and not unpack.eof and left >= 0:
            left -= len(unpack.decompress(packed, 2**20))
            packed = unpack.unconsumed_tail
        if left < 0:
            raise InputError(f"{where} has a strip that unpacks to more than {declared} bytes")


def _announced(file: Any) -> int:
    """Images of a stack that ImageJ's or tifffile's description announces within one page."""
    page = file.pages.first
    if page.is_imagej:
        return int((file.imagej_metadata or {}).get("images", 1))
    if page.is_shaped:
        from tifffile.tifffile import shaped_description_metadata

        shape = shaped_description_metadata(page.shaped_description).get("shape", page.shape)
        deep = [int(n) for n in shape[:-2]]
        return math.prod(deep)
    return 1


def _walk(file: IO[bytes], size: int, where: str) -> list[tuple[int | None, int | None]]:
    """(width, length) of every page, of which there are few, none twice, and whose tags lie
    within the file."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        raise InputError(f"{where} is no TIFF file, or cut off")
    (version,) = struct.unpack_from(order + "H", head, 2)
    if version not in (42, 43):
        raise InputError(f"{where} is no TIFF file (version {version}, expected 42 or 43)")
    big = version == 43
    count_format, entry_format, next_format = (
        (order + "Q", order + "HHQ8s", order + "Q")
        if big
        else (order + "H", order + "HHL4s", order + "L")
    )
    (at,) = struct.unpack_from(next_format, head, 8 if big else 4)
    pages, seen = [], set()
    while at:
        if at in seen or len(seen) >= _MOST_PAGES:
            raise InputError(f"{where} has a circle of pages, or more than {_MOST_PAGES}")
        seen.add(at)
        file.seek(at)
        tags = _unpack(file, count_format, where)
        if not 1 <= tags <= _MOST_TAGS:
            raise InputError(f"{where} has a page of {tags} tags, expected 1 to {_MOST_TAGS}")
        entries = file.read(tags * struct.calcsize(entry_format))
        at = _unpack(file, next_format, where)
        pages.append(_page(entries, entry_format, order, size, where))
    if not pages:
        raise InputError(f"{where} holds no image")
    return pages


def _page(
    entries: bytes, entry_format: str, order: str, size: int, where: str
) -> tuple[int | None, int | None]:
    numbers = {}
    for code, kind, count, value in struct.iter_unpack(entry_format, entries):
        width = _TYPE_SIZE.get(kind)
        if width is None:
            continue  # tifffile passes over it, too
        length = width * count
        start = 0
        if length > len(value):
            start = int.from_bytes(value, "little" if order == "<" else "big")
        if start + length > size or (count > _MOST_VALUES and kind not in _TEXT):
            raise InputError(
                f"{where} has a tag ({code}) of {count} values, more than the file holds"
            )
        if count == 1 and kind in (3, 4, 16):
            letter = {3: "H", 4: "L", 16: "Q"}[kind]
            (numbers[code],) = struct.unpack_from(order + letter, value)
    return numbers.get(_WIDTH), numbers.get(_LENGTH)


def _unpack(file: IO[bytes], form: str, where: str) -> int:
    content = file.read(struct.calcsize(form))
    if len(content) < struct.calcsize(form):
        raise InputError(f"{where} is cut off: a page lies beyond its end")
    return struct.unpack(form, content)[0]
