"""Images from MRC files, whose header is checked before mrcfile allocates what it declares."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import check_declared


def read_mrc(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The image of an MRC file, (rows, cols); a volume keeps its three axes.

    **Raises:** `InputError` for one that is not as declared; mrcfile's errors for a damaged file.
    """
    from mrcfile.mrcfile import MrcFile

    size = file_size(path, option)
    where = f"{option}: {path}"
    _check_header(path, size, where)
    with warnings.catch_warnings():
        # bytes behind the data, or an odd extended header, leave the image as it is
        warnings.simplefilter("ignore", RuntimeWarning)
        # not `mrcfile.open`, which unpacks gzip and bzip2 without a limit
        with MrcFile(path, permissive=False) as file:
            return np.array(file.data)


def _check_header(path: Path, size: int, where: str) -> None:
    from mrcfile import utils
    from mrcfile.dtypes import HEADER_DTYPE

    with path.open("rb") as file:
        head = file.read(HEADER_DTYPE.itemsize)
    if len(head) < HEADER_DTYPE.itemsize:
        raise InputError(f"{where} cannot be read (no MRC file, or cut off within its header)")
    header = np.frombuffer(head, HEADER_DTYPE)[0]
    if bytes(header["map"])[:3] != b"MAP":
        raise InputError(f"{where} cannot be read (no MRC file: it lacks the letters MAP)")
    order = utils.byte_order_from_machine_stamp(header["machst"])
    header = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
    extended = int(header["nsymbt"])
    if not 0 <= extended <= size - HEADER_DTYPE.itemsize:
        raise InputError(f"{where} declares an extended header of {extended} bytes, it has {size}")
    shape = tuple(int(header[name]) for name in ("nz", "ny", "nx"))
    dtype = utils.dtype_from_mode(header["mode"])
    check_declared(where, shape, dtype, size - HEADER_DTYPE.itemsize - extended)
