"""Images in all other formats that RosettaSciIO reads, where it is installed (GPL, therefore an
extra), in a process of its own."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.guarded import Content, guarded
from qhrtem_jax.io.hdf5 import Axis, array_of, axes_of


def known_elsewhere(path: Path) -> bool:
    """Whether RosettaSciIO is here, and knows the ending."""
    return importlib.util.find_spec("rsciio") is not None and _plugin(path) is not None


def read_other(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first image, or stack (frames, rows, cols), of a file.

    **Raises:** `InputError` where it cannot be read.
    """
    return array_of(guarded(other_image, path, option))


def other_calibration(path: Path) -> tuple[Axis, Axis] | None:
    """((size of a pixel, unit) along rows, the same along columns); None where it is not known.

    **Raises:** `InputError` as `read_other`.
    """
    if not known_elsewhere(path):
        return None
    return axes_of(guarded(other_axes, path, "image"))


def other_image(path: Path, option: str) -> Content:
    """What `read_other` gives, as `guarded` takes it."""
    return np.asarray(_signal(path, option)["data"]), None


def other_axes(path: Path, option: str) -> Content:
    """What `other_calibration` gives, as `guarded` takes it."""
    axes = _signal(path, option)["axes"][-2:]
    known = [(float(axis["scale"]), str(axis["units"])) for axis in axes]
    return None, known if len(known) == 2 else None


def _signal(path: Path, option: str) -> dict[str, Any]:
    plugin = _plugin(path)
    assert plugin is not None
    signals = importlib.import_module(plugin).file_reader(str(path))
    images = [signal for signal in signals if len(signal["axes"]) in (2, 3)]
    if not images:
        raise InputError(f"{option}: {path} holds no image, expected rows and columns")
    return images[0]


def _plugin(path: Path) -> str | None:
    """The module that reads files of this ending."""
    from rsciio import IO_PLUGINS

    ending = path.suffix.lower().lstrip(".")
    for plugin in IO_PLUGINS:
        if ending in (known.lower() for known in plugin["file_extensions"]):
            return plugin["api"]
    return None
