"""Images from HyperSpy's .zspy: the groups of .hspy in a Zarr store, a folder or a zip file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import reading
from qhrtem_jax.io.hdf5 import Axis, hyperspy_signal
from qhrtem_jax.io.image_size import MOST_COMPRESSION, check_declared


def read_zspy(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first signal of a .zspy store, if it is an image or a stack (frames, rows, cols).

    **Raises:** `InputError` for one that is not as declared, or without an image.
    """
    where = f"{option}: {path}"
    with _opened(path, option) as group:
        data = hyperspy_signal(group, where).data
        check_declared(where, data.shape, data.dtype, data.nbytes_stored(), MOST_COMPRESSION)
        return np.asarray(data[...])


def zspy_calibration(path: Path) -> tuple[Axis, Axis] | None:
    """((size of a pixel, unit) along rows, the same along columns); None where it says nothing.

    **Raises:** `InputError` as `read_zspy`.
    """
    with _opened(path, "image") as group:
        return hyperspy_signal(group, str(path)).axes


@contextlib.contextmanager
def _opened(path: Path, option: str) -> Iterator[Any]:
    import zarr
    import zarr.storage

    if not path.exists():
        raise InputError(f"{option}: no file {path}")
    with reading(path, option):
        store = (
            zarr.storage.LocalStore(path, read_only=True)
            if path.is_dir()
            else zarr.storage.ZipStore(path, mode="r")
        )
        with contextlib.closing(store):
            yield zarr.open_group(store, mode="r")
