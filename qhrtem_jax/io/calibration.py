"""What files say of the size of their pixels."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
}
"""Units of length, in lower case, in nm."""

SENSIBLE = (1e-4, 10.0)
"""nm per pixel that an image of atoms may have; anything else is no calibration."""

Pair = tuple[float, float]


def file_sampling(path: Path) -> Pair | None:
    """(row, column) nm per pixel that a file of an image gives; None where it gives none, or none
    that can be. A damaged file gives none: whoever reads the image says what is wrong with it."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        return None
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


def _digital_micrograph(path: Path) -> Pair | None:
    from rsciio.digitalmicrograph import file_reader

    axes = file_reader(str(path), lazy=True)[0]["axes"][-2:]
    down, along = (_in_nm(float(axis["scale"]), str(axis["units"])) for axis in axes)
    return down, along


_READERS: dict[str, Callable[[Path], Pair | None]] = {
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    ".mrc": _mrc,
    **dict.fromkeys((".dm3", ".dm4"), _digital_micrograph),
}
