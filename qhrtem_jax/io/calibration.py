"""What files say of the size of their pixels."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qhrtem_jax.io.digital_micrograph import digital_micrograph_calibration
from qhrtem_jax.io.hdf5 import emd_calibration, hspy_calibration
from qhrtem_jax.io.rosettasciio import other_calibration
from qhrtem_jax.io.ser import ser_calibration
from qhrtem_jax.io.zarr_files import zspy_calibration

NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "pm": 1e-3,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "m": 1e9,
    "meters": 1e9,
}
"""Units of length, in lower case, in nm."""

SENSIBLE = (1e-4, 10.0)
"""nm per pixel that an image of atoms may have; anything else is no calibration."""

WITHOUT = (".npy", ".npz", ".dat", ".raw", ".png")
"""Endings of images that say nothing of it."""

Pair = tuple[float, float]


def file_sampling(path: Path) -> Pair | None:
    """(row, column) nm per pixel that a file of an image gives; None where it gives none, or none
    that can be. A damaged file gives none: whoever reads the image says what is wrong with it."""
    ending = path.suffix.lower()
    if ending in WITHOUT:
        return None
    reader = _READERS.get(ending, _by_units(other_calibration))
    try:
        found = reader(path)
    except Exception:  # as many kinds as there are ways to damage a file
        return None
    if found is None or not all(SENSIBLE[0] <= n <= SENSIBLE[1] for n in found):
        return None
    return found


def _in_nm(size: float, unit: str) -> float:
    return size * NM.get(unit.strip().lower(), math.nan)


def _tiff(path: Path) -> Pair | None:
    import tifffile

    with tifffile.TiffFile(path, is_ome=False) as file:
        page = file.pages.first
        if page.is_fei:
            scan = (file.fei_metadata or {}).get("Scan", {})
            return float(scan["PixelHeight"]) * 1e9, float(scan["PixelWidth"]) * 1e9
        if not page.is_imagej:
            return None  # resolutions of plain files are those of a printer
        unit = str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        per_unit = [page.tags[name].value for name in ("YResolution", "XResolution")]
        down, along = (_in_nm(below / above, unit) for above, below in per_unit)
        return down, along


def _mrc(path: Path) -> Pair | None:
    from mrcfile.mrcfile import MrcFile

    with MrcFile(path, permissive=False, header_only=True) as file:
        voxel: Any = file.voxel_size
        return float(voxel.y) / 10.0, float(voxel.x) / 10.0


def _by_units(
    read: Callable[[Path], tuple[tuple[float, str], tuple[float, str]] | None],
) -> Callable[[Path], Pair | None]:
    """Of a reader of sizes with their units."""

    def find(path: Path) -> Pair | None:
        known = read(path)
        if known is None:
            return None
        (down, its_unit), (along, other_unit) = known
        return _in_nm(down, its_unit), _in_nm(along, other_unit)

    return find


_READERS: dict[str, Callable[[Path], Pair | None]] = {
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    ".mrc": _mrc,
    **dict.fromkeys((".dm3", ".dm4"), _by_units(digital_micrograph_calibration)),
    ".emd": _by_units(emd_calibration),
    ".hspy": _by_units(hspy_calibration),
    ".zspy": _by_units(zspy_calibration),
    ".ser": _by_units(ser_calibration),
}
