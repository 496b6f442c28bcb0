"""Experimental images from files, checked before anything is computed."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.digital_micrograph import read_digital_micrograph
from qhrtem_jax.io.files import file_size, reading
from qhrtem_jax.io.hdf5 import read_emd, read_hspy
from qhrtem_jax.io.image_size import MOST_PIXELS, check_declared
from qhrtem_jax.io.mrc import read_mrc
from qhrtem_jax.io.numpy_files import read_npy, read_npz
from qhrtem_jax.io.picture import read_png
from qhrtem_jax.io.rosettasciio import known_elsewhere, read_other
from qhrtem_jax.io.ser import read_ser
from qhrtem_jax.io.tiff import read_tiff
from qhrtem_jax.io.zarr_files import read_zspy

RAW = (".dat", ".raw")
"""Endings of files of pixels alone, whose shape is not in them."""

FOLDERS = (".zspy",)
"""Endings of images that may be folders."""

MEAN_RANGE = (0.3, 3.0)
"""Mean intensity of an image that is normalised to its vacuum."""

LARGEST_INTENSITY = 1e6
"""Size of any pixel, far beyond a hot one; squares of larger ones may overflow in float32."""

LEAST_PEAK_TO_PEAK = 1e-9
"""Peak to peak of an image, against its mean; the last digit of a float32 is 1e-7."""


def read_pixels(
    path: Path, shape: tuple[int, int] | None = None, option: str = "image"
) -> Float64[np.ndarray, "rows cols"]:
    """An image in any unit, all of it finite; see `read_counts`.

    **Raises:** `InputError` that names the file, what was found and what was expected.
    """
    image = read_counts(path, shape, option)
    _check_finite(image, f"{option}: {path}")
    return image


def read_counts(
    path: Path, shape: tuple[int, int] | None = None, option: str = "image"
) -> Float64[np.ndarray, "rows cols"]:
    """The one image of a file, in any unit, as it is; see `read_frames`.

    **Raises:** `InputError` that names the file, what was found and what was expected.
    """
    image = _only(read_frames(path, shape, option), f"{option}: {path}")
    with np.errstate(over="ignore", invalid="ignore"):  # whoever wants finite numbers looks
        return np.asarray(image, dtype=np.float64)


def read_mask(path: Path, option: str = "mask") -> Bool[np.ndarray, "rows cols"]:
    """Which pixels of a file are not 0; truth values are as good as numbers, NaN is no mask.

    **Raises:** `InputError` that names the file, what was found and what was expected.
    """
    mask = _only(read_frames(path, None, option, kinds="fiub"), f"{option}: {path}")
    _check_finite(mask, f"{option}: {path}")
    return mask != 0


def _only(
    frames: Shaped[np.ndarray, "frames rows cols"], where: str
) -> Shaped[np.ndarray, "rows cols"]:
    """The one image of a file; `where` begins the message."""
    if len(frames) > 1:
        raise InputError(f"{where} holds a stack of {len(frames)} images, expected one")
    return frames[0]


def read_frames(
    path: Path,
    shape: tuple[int, int] | None = None,
    option: str = "image",
    kinds: str = "fiu",
) -> Shaped[np.ndarray, "frames rows cols"]:
    """The images of a file, in any unit and any kind of real numbers, as they are.

    By its ending: .dat or .raw (float32, needs `shape`), .npy, .npz (its array `image`, or its only
    one), .tif/.tiff, .mrc, .dm3/.dm4, .emd, .hspy/.zspy, .ser, .png. At most `MOST_PIXELS`; what a
    file declares is checked against its size before it is read. All else is RosettaSciIO's, where
    that is installed. `kinds` of numbers, as NumPy abbreviates them.

    **Raises:** `InputError` that names the file, what was found and what was expected.
    """
    if shape is not None and (min(shape) < 1 or math.prod(shape) > MOST_PIXELS):
        raise InputError(
            f"{option}: found the shape {list(shape)}, expected [rows,cols] above 0 of at most "
            f"{MOST_PIXELS} pixels"
        )
    ending = path.suffix.lower()
    if ending not in FOLDERS:
        file_size(path, option)
    reader = _READERS.get(ending, _other)
    with reading(path, option), warnings.catch_warnings():
        # numbers that overflow in a damaged file; the image itself is checked afterwards
        warnings.simplefilter("ignore", RuntimeWarning)
        image = reader(path, shape, option)
    if np.ma.is_masked(image):
        raise InputError(f"{option}: {path} has masked pixels, expected a whole image")
    if image.ndim not in (2, 3) or min(image.shape) < 1:
        raise InputError(
            f"{option}: {path} has shape {image.shape}, expected rows and columns, or a stack of "
            "these"
        )
    if image.dtype.kind not in kinds:
        raise InputError(f"{option}: {path} holds {image.dtype} numbers, expected real intensities")
    if shape is not None and image.shape[-2:] != tuple(shape):
        raise InputError(f"{option}: {path} has shape {image.shape[-2:]}, expected {tuple(shape)}")
    return image.reshape(-1, *image.shape[-2:])


def check_normalised(image: Float[np.ndarray, "rows cols"], where: str, advice: str) -> None:
    """**Raises:** `InputError` for an image that is not finite, or not normalised to its vacuum;
    `where` begins the message, `advice` says what to do about the latter."""
    _check_finite(image, where)
    low, high = float(np.min(image)), float(np.max(image))
    largest = max(-low, high)
    with np.errstate(over="ignore"):
        mean = float(np.mean(image))
    if low == high or high / 2 - low / 2 <= 0.5 * LEAST_PEAK_TO_PEAK * abs(mean):
        raise InputError(f"{where} is constant ({low:g})")
    if not MEAN_RANGE[0] <= mean <= MEAN_RANGE[1]:
        raise InputError(
            f"{where} has mean intensity {mean:.4g}, expected {MEAN_RANGE[0]} to "
            f"{MEAN_RANGE[1]}: {advice}"
        )
    if largest > LARGEST_INTENSITY:
        extreme = low if largest == -low else high
        raise InputError(
            f"{where} has a pixel of {extreme:.4g}, expected intensities near 1, "
            f"at most {LARGEST_INTENSITY:g}"
        )


def _check_finite(image: np.ndarray, where: str) -> None:
    if not np.all(np.isfinite(image)):
        count = int(np.sum(~np.isfinite(image)))
        raise InputError(f"{where} has {count} pixels that are NaN or infinite")


def _read_raw(path: Path, shape: tuple[int, int] | None, option: str) -> np.ndarray:
    if shape is None:
        raise InputError(f"{option}: {path} is a raw file: its shape [rows,cols] is needed")
    size, expected = file_size(path, option), 4 * shape[0] * shape[1]
    if size != expected:
        raise InputError(
            f"{option}: {path} has {size} bytes, expected {expected} "
            f"for {shape[0]} x {shape[1]} float32 numbers"
        )
    check_declared(f"{option}: {path}", shape, np.dtype("<f4"), size)
    return np.fromfile(path, "<f4").reshape(shape)


def _other(path: Path, shape: tuple[int, int] | None, option: str) -> np.ndarray:
    if not known_elsewhere(path):
        raise InputError(
            f"{option}: {path} ends with {path.suffix!r}, expected one of {', '.join(_READERS)}, "
            "or with the extra `formats` of what RosettaSciIO reads"
        )
    return read_other(path, option)


def _by_header(reader: Callable[[Path, str], np.ndarray]) -> Callable:
    return lambda path, shape, option: reader(path, option)


_READERS = {
    **dict.fromkeys(RAW, _read_raw),
    ".npy": _by_header(read_npy),
    ".npz": lambda path, shape, option: read_npz(path, option, "image"),
    ".tif": _by_header(read_tiff),
    ".tiff": _by_header(read_tiff),
    ".mrc": _by_header(read_mrc),
    ".dm3": _by_header(read_digital_micrograph),
    ".dm4": _by_header(read_digital_micrograph),
    ".emd": _by_header(read_emd),
    ".hspy": _by_header(read_hspy),
    ".zspy": _by_header(read_zspy),
    ".ser": _by_header(read_ser),
    ".png": _by_header(read_png),
}


def crop(
    image: Shaped[np.ndarray, "rows cols"], region: tuple[int, int, int, int], field: str
) -> Shaped[np.ndarray, "cut_rows cut_cols"]:
    """image[row0:row0+rows, col0:col0+cols]; `field` names the region in errors.

    **Raises:** `InputError` if the region leaves the image.
    """
    row, col, rows, cols = region
    if min(row, col) < 0 or min(rows, cols) < 1:
        raise InputError(f"{field}: found {list(region)}, expected [row0,col0,rows,cols] above 0")
    if row + rows > image.shape[0] or col + cols > image.shape[1]:
        raise InputError(
            f"{field}: {rows} x {cols} pixels from row {row}, column {col} leave the image "
            f"of {image.shape[0]} x {image.shape[1]}"
        )
    return image[row : row + rows, col : col + cols]
