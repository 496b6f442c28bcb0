"""Experimental images from files, checked before anything is computed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError

MEAN_RANGE = (0.3, 3.0)
"""Mean intensity of an image that is normalised to its vacuum."""


def read_image(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """A vacuum-normalised image, (rows, cols), float64.

    By its ending: .dat or .raw (float32, needs `shape`), .npy, .npz (its array `image`, or its only
    one), .tif/.tiff, .mrc, .dm3/.dm4 (needs the `formats` extra).

    **Raises:** `InputError` that names the file, what was found and what was expected.
    """
    if not path.is_file():
        raise InputError(f"data.image: no file {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"data.image: {path} ends with {path.suffix!r}, expected one of {', '.join(_READERS)}"
        )
    image = reader(path, shape)
    if image.ndim != 2:
        raise InputError(f"data.image: {path} has shape {image.shape}, expected rows and columns")
    if np.iscomplexobj(image) or image.dtype.kind not in "fiu":
        raise InputError(
            f"data.image: {path} holds {image.dtype} numbers, expected real intensities"
        )
    if shape is not None and image.shape != tuple(shape):
        raise InputError(f"data.image: {path} has shape {image.shape}, data.shape says {shape}")
    image = image.astype(np.float64)
    if not np.all(np.isfinite(image)):
        count = int(np.sum(~np.isfinite(image)))
        raise InputError(f"data.image: {path} has {count} pixels that are NaN or infinite")
    if np.ptp(image) == 0.0:
        raise InputError(f"data.image: {path} is constant ({image.flat[0]:g})")
    mean = float(np.mean(image))
    if not MEAN_RANGE[0] <= mean <= MEAN_RANGE[1]:
        raise InputError(
            f"data.image: {path} has mean intensity {mean:.4g}, expected {MEAN_RANGE[0]} to "
            f"{MEAN_RANGE[1]}: divide the image by the intensity of the vacuum"
        )
    return image


def _read_raw(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    if shape is None:
        raise InputError(f"data.shape: needed as [rows,cols] to read the raw file {path}")
    size, expected = path.stat().st_size, 4 * shape[0] * shape[1]
    if size != expected:
        raise InputError(
            f"data.image: {path} has {size} bytes, expected {expected} "
            f"for {shape[0]} x {shape[1]} float32 numbers (data.shape)"
        )
    return np.fromfile(path, "<f4").reshape(shape)


def _read_numpy(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    del shape
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    names = content.files
    if "image" in names:
        return content["image"]
    if len(names) != 1:
        raise InputError(f"data.image: {path} holds {names}, expected an array named 'image'")
    return content[names[0]]


def _read_tiff(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    del shape
    import tifffile

    return tifffile.imread(path)


def _read_mrc(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    del shape
    import mrcfile

    with mrcfile.open(path, permissive=False) as file:
        return np.array(file.data)


def _read_digital_micrograph(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    del shape
    try:
        from rsciio.digitalmicrograph import file_reader  # GPL, therefore an extra
    except ImportError:
        raise InputError(
            f"data.image: reading {path} needs RosettaSciIO: pip install 'qhrtem_jax[formats]'"
        ) from None
    return np.asarray(file_reader(str(path))[0]["data"])


def _guarded(reader: Callable) -> Callable:
    def read(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
        try:
            return reader(path, shape)
        except InputError:
            raise
        # Each file library has its own errors; for the user they all mean a damaged file.
        except Exception as error:
            raise InputError(
                f"data.image: {path} cannot be read ({type(error).__name__}: {error})"
            ) from error

    return read


_READERS = {
    ".dat": _read_raw,
    ".raw": _read_raw,
    ".npy": _guarded(_read_numpy),
    ".npz": _guarded(_read_numpy),
    ".tif": _guarded(_read_tiff),
    ".tiff": _guarded(_read_tiff),
    ".mrc": _guarded(_read_mrc),
    ".dm3": _guarded(_read_digital_micrograph),
    ".dm4": _guarded(_read_digital_micrograph),
}


def crop(image: np.ndarray, region: tuple[int, int, int, int], field: str) -> np.ndarray:
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
