"""Images in HDF5 files: electron microscopy's .emd, both Berkeley's and Velox's, and HyperSpy's
.hspy. What a file declares is checked before it is read.

Berkeley's: https://emdatasets.com/format, groups with `emd_group_type` 1, their `data` and a `dimN`
for each axis. Velox's: `Data/Image/*/Data`, frames on the last axis, with `Metadata` as JSON.
HyperSpy's: `Experiments/*/data` with `axis-N`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.guarded import Content, guarded
from qhrtem_jax.io.image_size import MOST_COMPRESSION, check_declared

_DEEPEST = 8
_MOST_GROUPS = 1000

_MOST_METADATA = 2**24
"""Bytes of Velox's metadata of one frame."""

Axis = tuple[float, str]
"""Size of a pixel, and its unit."""


@dataclasses.dataclass(frozen=True)
class _Image:
    """A dataset, the order of its axes as (frames, rows, cols) or (rows, cols), and what the file
    says of those two."""

    data: Any
    order: tuple[int, ...]
    axes: tuple[Axis, Axis] | None


def read_emd(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first image, or stack (frames, rows, cols), of an .emd file.

    **Raises:** `InputError` for one that is not as declared, or without an image.
    """
    return array_of(guarded(emd_image, path, option))


def emd_calibration(path: Path) -> tuple[Axis, Axis] | None:
    """((size of a pixel, unit) along rows, the same along columns); None where it says nothing.

    **Raises:** `InputError` as `read_emd`.
    """
    return axes_of(guarded(emd_axes, path, "image"))


def read_hspy(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first signal of an .hspy file, if it is an image or a stack (frames, rows, cols).

    **Raises:** `InputError` for one that is not as declared, or without an image.
    """
    return array_of(guarded(hspy_image, path, option))


def hspy_calibration(path: Path) -> tuple[Axis, Axis] | None:
    """As `emd_calibration`."""
    return axes_of(guarded(hspy_axes, path, "image"))


def emd_image(path: Path, option: str) -> Content:
    """What `read_emd` gives, as `guarded` takes it."""
    return _image_of(_emd, path, option)


def emd_axes(path: Path, option: str) -> Content:
    """What `emd_calibration` gives, as `guarded` takes it."""
    return _axes_of(_emd, path, option)


def hspy_image(path: Path, option: str) -> Content:
    """What `read_hspy` gives, as `guarded` takes it."""
    return _image_of(hyperspy_signal, path, option)


def hspy_axes(path: Path, option: str) -> Content:
    """What `hspy_calibration` gives, as `guarded` takes it."""
    return _axes_of(hyperspy_signal, path, option)


def array_of(content: Content) -> Shaped[np.ndarray, "..."]:
    """The array that was read."""
    assert content[0] is not None
    return content[0]


def axes_of(content: Content) -> tuple[Axis, Axis] | None:
    """The axes that were read."""
    known = content[1]
    if known is None:
        return None
    (down, its_unit), (along, other_unit) = known
    return (down, its_unit), (along, other_unit)


def _image_of(find: Callable[[Any, str], "_Image"], path: Path, option: str) -> Content:
    import h5py

    size, where = file_size(path, option), f"{option}: {path}"
    with h5py.File(path, "r") as file:
        return _pixels(find(file, where), path, size, where), None


def _axes_of(find: Callable[[Any, str], "_Image"], path: Path, option: str) -> Content:
    import h5py

    with h5py.File(path, "r") as file:
        return None, find(file, f"{option}: {path}").axes


def hyperspy_signal(file: Any, where: str) -> _Image:
    """The first signal of HyperSpy's tree of groups, HDF5's or Zarr's.

    **Raises:** `InputError` without one.
    """
    experiments = file.get("Experiments", {})
    for name in experiments:
        group = experiments[name]
        if "data" not in group:
            continue
        data = group["data"]
        axes: list[Axis] = []
        for k in range(len(data.shape)):
            known = dict(group[f"axis-{k}"].attrs) if f"axis-{k}" in group else {}
            axes.append((_float(known.get("scale")), _text(known.get("units"))))
        order = tuple(range(len(data.shape)))
        return _Image(data, order, (axes[-2], axes[-1]) if len(axes) > 1 else None)
    raise InputError(f"{where} cannot be read (it lacks Experiments with data)")


def _pixels(image: _Image, path: Path, size: int, where: str) -> np.ndarray:
    data = image.data
    elsewhere = Path(data.file.filename) != path  # through a link
    # external files, and datasets made of others, are not what this file holds
    if elsewhere or data.external or data.is_virtual:
        raise InputError(f"{where} keeps its image in other files, expected it in this one")
    plain = data.chunks is None
    stored = size if plain else min(size, data.id.get_storage_size())
    check_declared(where, data.shape, data.dtype, stored, 1.0 if plain else MOST_COMPRESSION)
    return np.transpose(data[()], image.order)


def _emd(file: Any, where: str) -> _Image:
    found = _velox(file)
    for group in _groups(file, _DEEPEST):
        if found is not None:
            break
        if str(group.attrs.get("emd_group_type", 0)) == "1":
            found = _berkeley(group)
    if found is None:
        raise InputError(f"{where} cannot be read (it holds neither Velox's nor Berkeley's images)")
    return found


def _velox(file: Any) -> _Image | None:
    images = file.get("Data/Image", None)
    if images is None:
        return None
    for name in images:
        group = images[name]
        plain = "Data" in group and group["Data"].dtype.kind in "fiu"  # others are its transforms
        if plain and len(group["Data"].shape) == 3:
            return _Image(group["Data"], (2, 0, 1), _velox_axes(group))
    return None


def _velox_axes(group: Any) -> tuple[Axis, Axis] | None:
    """What the metadata of the first frame say: bytes of JSON, ended by zeros."""
    known = group.get("Metadata", None)
    if known is None or len(known.shape) != 2 or known.shape[0] > _MOST_METADATA:
        return None
    try:
        result = json.loads(bytes(known[:, 0]).split(b"\0")[0])["BinaryResult"]
        pixel = result["PixelSize"]
        down = float(pixel["height"]), str(result["PixelUnitY"])
        return down, (float(pixel["width"]), str(result["PixelUnitX"]))
    except (KeyError, TypeError, ValueError):
        return None


def _berkeley(group: Any) -> _Image | None:
    """Axes that are called x and y say which is which. Without such names rows come first, as
    ncempy writes them, or last where units are written as [n_m], as RosettaSciIO does."""
    if "data" not in group or len(group["data"].shape) not in (2, 3):
        return None
    data = group["data"]
    first = 0 if "dim0" in group else 1
    dims = [group.get(f"dim{first + k}", None) for k in range(len(data.shape))]
    names, axes = [], []
    for dim in dims:
        known = {} if dim is None else dict(dim.attrs)
        names.append(_text(known.get("name")).strip().lower()[:1])
        unit = _text(known.get("units")).strip()
        bracketed = unit.startswith("[")
        values = [] if dim is None or dim.size < 2 else [float(n) for n in dim[:2]]
        step = abs(values[1] - values[0]) if values else float("nan")
        axes.append((step, unit.strip("[]").replace("_", "") if bracketed else unit, bracketed))
    if names.count("x") == 1 and names.count("y") == 1:
        rows, cols = names.index("y"), names.index("x")
    elif any(bracketed for _, _, bracketed in axes):
        rows, cols = 1, 0
    else:
        rows, cols = len(dims) - 2, len(dims) - 1
    others = tuple(k for k in range(len(dims)) if k not in (rows, cols))
    return _Image(data, (*others, rows, cols), (axes[rows][:2], axes[cols][:2]))


def _groups(group: Any, deep: int, seen: list[int] | None = None) -> Iterator[Any]:
    """All groups below, few of them, and none twice through links."""
    seen = [0] if seen is None else seen
    for name in group:
        link = group.get(name, getlink=True)
        if type(link).__name__ != "HardLink" or seen[0] >= _MOST_GROUPS:
            continue
        one = group[name]
        if not hasattr(one, "keys"):
            continue
        seen[0] += 1
        yield one
        if deep > 0:
            yield from _groups(one, deep - 1, seen)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        return _text(value.reshape(-1)[0])
    return value if isinstance(value, str) else ""


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
