"""Arrays that may be larger than the memory: files while they are made, written in pieces."""

import mmap
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

LARGE_BYTES = 2**28
"""Arrays of more lie on disk while they are made, and are not compressed."""

PIECE_BYTES = 2**24


def large(size: int) -> bool:
    """Whether arrays of so many bytes are."""
    return size > LARGE_BYTES


def on_disk(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Shaped[np.ndarray, "..."]:
    """An array to be filled, which is the file `path` (.npy).

    **Raises:** `OSError` that names the file where the disk has no room for it.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a disk that is too small says so now
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def forget(array: Shaped[np.ndarray, "..."]) -> None:
    """Give the memory of a file's array back; its content stays in the file."""
    mapped = getattr(array, "_mmap", None)
    kept = getattr(array, "mode", None) in ("r", "r+", "w+")  # not a copy on writing
    if mapped is not None and kept and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def pieces(array: Shaped[np.ndarray, "n ..."]) -> Iterator[tuple[slice, Shaped[np.ndarray, "..."]]]:
    """(where, a part) along the first axis, one after the other; memory is given back."""
    step = max(1, PIECE_BYTES // max(array[:1].nbytes, 1))
    for start in range(0, len(array), step):
        here = slice(start, min(start + step, len(array)))
        yield here, array[here]
        forget(array)


def write_npz(file: BinaryIO, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """As `numpy.savez`, a piece at a time; compressed where the arrays are not large."""
    if not large(sum(np.asarray(array).nbytes for array in arrays.values())):
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as target:
                if array.ndim == 0 or array.nbytes <= PIECE_BYTES:
                    np.lib.format.write_array(target, array, allow_pickle=False)
                    continue
                head = np.lib.format.header_data_from_array_1_0(array)
                head["fortran_order"] = False  # pieces are rows, whatever the array is
                np.lib.format.write_array_header_1_0(target, head)
                for _, part in pieces(array):
                    target.write(np.ascontiguousarray(part).tobytes())
