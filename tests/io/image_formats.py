"""Writes one image, or a stack, in formats of electron microscopes, calibrated in nm."""

import json
import struct
from pathlib import Path

import numpy as np

_SER_KINDS = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8}


def write_ser(path: Path, frames: np.ndarray, nm: tuple[float, float], version: int = 0x0220):
    """TIA's, as C. Boothroyd describes it: frames (frames, rows, cols)."""
    place = "<Q" if version >= 0x0220 else "<I"
    count, rows, cols = frames.shape
    dimension = struct.pack("<IddII", count, 0.0, 1.0, 0, 0) + struct.pack("<I", 0)
    head = struct.pack("<HHHIIII", 0x4949, 0x0197, version, 0x4122, 0x4152, count, count)
    table = len(head) + struct.calcsize(place) + 4 + len(dimension)
    first = table + 2 * count * struct.calcsize(place)
    elements, tags, places = b"", b"", []
    kind = _SER_KINDS[frames.dtype.str[1:]]
    for frame in frames:
        places.append(first + len(elements))
        calibration = (0.0, nm[1] * 1e-9, 0, 0.0, nm[0] * 1e-9, 0)
        elements += struct.pack("<ddiddiHII", *calibration, kind, cols, rows)
        elements += np.ascontiguousarray(frame[::-1]).tobytes()
    for k in range(count):
        places.append(first + len(elements) + len(tags))
        tags += struct.pack("<HHI", 0x4152, 0, k)
    written = b"".join(struct.pack(place, at) for at in places)
    table_at = struct.pack(place, table)
    path.write_bytes(head + table_at + struct.pack("<I", 1) + dimension + written + elements + tags)


def write_velox(path: Path, frames: np.ndarray, nm: tuple[float, float]) -> None:
    """Velox's .emd."""
    import h5py

    known = {
        "BinaryResult": {
            "PixelSize": {"height": str(nm[0] * 1e-9), "width": str(nm[1] * 1e-9)},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Offset": {"x": "0", "y": "0"},
        },
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Scan": {"FrameTime": "1.0"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "0"}},
        "Optics": {"AccelerationVoltage": "300000"},
        "Instrument": {"InstrumentModel": "none"},
        "Stage": {},
    }
    text = json.dumps(known).encode()
    column = np.zeros(4096, np.uint8)
    column[: len(text)] = np.frombuffer(text, np.uint8)
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "1.10"}).encode()])
        group = file.create_group("Data/Image/0123456789abcdef")
        group.create_dataset("Data", data=np.moveaxis(frames, 0, 2), chunks=True)
        group.create_dataset("Metadata", data=np.tile(column[:, None], (1, len(frames))))


def write_berkeley(
    path: Path, image: np.ndarray, nm: tuple[float, float], names: tuple[str, str] = ("y", "x")
) -> None:
    """Berkeley's .emd, rows first, as ncempy writes it; `names` of the two axes."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = image
        for k, (name, step) in enumerate(zip(names, nm, strict=True), 1):
            group[f"dim{k}"] = np.arange(image.shape[k - 1]) * step
            group[f"dim{k}"].attrs["name"], group[f"dim{k}"].attrs["units"] = name, "nm"


def write_zspy(
    path: Path, frames: np.ndarray, nm: tuple[float, float], *, version: int, zipped: bool
) -> None:
    """HyperSpy's groups in a Zarr store (RosettaSciIO's own writer wants an older Zarr)."""
    import zarr

    store = zarr.storage.ZipStore(path, mode="w") if zipped else zarr.storage.LocalStore(path)
    root = zarr.create_group(store, zarr_format=version)
    group = root.create_group("Experiments/image")
    group.create_array("data", data=frames)
    for k, (step, unit) in enumerate([(1.0, "s"), (nm[0], "nm"), (nm[1], "nm")]):
        known = {"scale": step, "units": unit, "size": frames.shape[k], "navigate": k == 0}
        group.create_group(f"axis-{k}", attributes=known)
    store.close()


def write_hspy(path: Path, image: np.ndarray, nm: tuple[float, float], **options: str) -> None:
    """HyperSpy's, as RosettaSciIO lays it out."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/image")
        group.create_dataset("data", data=image, chunks=True, **options)
        for k, step in enumerate(nm):
            group.create_group(f"axis-{k}").attrs.update({"scale": step, "units": "nm"})
