"""Images from HyperSpy's .zspy: the groups of .hspy in a Zarr store, a folder or a zip file."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.guarded import Content, guarded
from qhrtem_jax.io.hdf5 import Axis, array_of, axes_of, hyperspy_signal
from qhrtem_jax.io.image_size import MOST_COMPRESSION, check_declared

LARGEST_CHUNK = 4
"""A chunk may be so many times as large as the image: it is unpacked whole."""


def read_zspy(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first signal of a .zspy store, if it is an image or a stack (frames, rows, cols).

    **Raises:** `InputError` for one that is not as declared, or without an image.
    """
    return array_of(guarded(zspy_image, path, option))


def zspy_calibration(path: Path) -> tuple[Axis, Axis] | None:
    """((size of a pixel, unit) along rows, the same along columns); None where it says nothing.

    **Raises:** `InputError` as `read_zspy`.
    """
    return axes_of(guarded(zspy_axes, path, "image"))


def zspy_image(path: Path, option: str) -> Content:
    """What `read_zspy` gives, as `guarded` takes it."""
    where = f"{option}: {path}"
    with _opened(path) as group:
        data = hyperspy_signal(group, where).data
        check_declared(where, data.shape, data.dtype, data.nbytes_stored(), MOST_COMPRESSION)
        if math.prod(data.chunks) > LARGEST_CHUNK * math.prod(data.shape):
            raise InputError(f"{where} declares chunks {data.chunks} of an image {data.shape}")
        return np.asarray(data[...]), None


def zspy_axes(path: Path, option: str) -> Content:
    """What `zspy_calibration` gives, as `guarded` takes it."""
    with _opened(path) as group:
        return None, hyperspy_signal(group, f"{option}: {path}").axes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import zarr
    import zarr.storage

    store = (
        zarr.storage.LocalStore(path, read_only=True)
        if path.is_dir()
        else zarr.storage.ZipStore(path, mode="r")
    )
    with contextlib.closing(store):
        yield zarr.open_group(store, mode="r")
