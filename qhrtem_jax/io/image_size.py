"""Limits on what an image file may declare, checked before anything is allocated."""

import math
from collections.abc import Sequence

import numpy as np

from qhrtem_jax.errors import InputError

MOST_PIXELS = 16384 * 16384
"""Pixels of the largest image that is read."""

MOST_COMPRESSION = 1100
"""Bytes that one stored byte can stand for; deflate reaches 1032."""


def check_declared(
    where: str, shape: Sequence[int], dtype: np.dtype, stored: int, compression: float = 1.0
) -> int:
    """Bytes of a declared array, which `stored` bytes of the file must be able to hold.

    `where` begins the message: option and file.

    **Raises:** `InputError` for a shape that is none, too many pixels, or numbers that are no real
    intensities, and where the file is too short.
    """
    # Python's whole numbers, as the product of a damaged shape overflows
    shape = tuple(int(n) for n in shape)
    if not shape or min(shape) < 1:
        raise InputError(f"{where} has shape {shape}, expected rows and columns")
    pixels = math.prod(shape)
    if pixels > MOST_PIXELS:
        raise InputError(
            f"{where} declares {_times(shape)} pixels, expected at most {MOST_PIXELS} "
            "(16384 x 16384): crop it first"
        )
    if dtype.kind not in "fiub":
        raise InputError(f"{where} holds {dtype} numbers, expected real intensities")
    size = pixels * dtype.itemsize
    if size > stored * compression:
        raise InputError(
            f"{where} cannot be read: it declares {_times(shape)} pixels of {dtype}, {size} "
            f"bytes, but holds {stored}: is it cut off?"
        )
    return size


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
