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


def read_other(path: Path, option: str) -> Shaped[np.ndarray, "..."]:
    """The first image, or stack (frames, rows, cols), of a file.

    **Raises:** `InputError` where RosettaSciIO is not installed, does not know the ending, or
    fails.
    """
    if importlib.util.find_spec("rsciio") is None:
        raise InputError(
            f"{option}: {path} ends with {path.suffix!r}, which needs RosettaSciIO: "
            "pip install 'qhrtem_jax[formats]'"
        )
    image = guarded(other_image, path, option)[0]
    assert image is not None
    return image


def other_calibration(path: Path) -> tuple[tuple[float, str], tuple[float, str]] | None:
    """((size of a pixel, unit) along rows, the same along columns); None where it is not known.

    **Raises:** `InputError` as `read_other`.
    """
    if importlib.util.find_spec("rsciio") is None:
        return None
    known = guarded(other_axes, path, "image")[1]
    return None if known is None else ((*known[0],), (*known[1],))  # type: ignore[return-value]


def other_image(path: Path, option: str) -> Content:
    """What `read_other` gives, as `guarded` takes it."""
    return np.asarray(_signal(path, option)["data"]), None


def other_axes(path: Path, option: str) -> Content:
    """What `other_calibration` gives, as `guarded` takes it."""
    axes = _signal(path, option)["axes"][-2:]
    known = [(float(axis["scale"]), str(axis["units"])) for axis in axes]
    return None, known if len(known) == 2 else None


def _signal(path: Path, option: str) -> dict[str, Any]:
    from rsciio import IO_PLUGINS

    ending = path.suffix.lower().lstrip(".")
    for plugin in IO_PLUGINS:
        if ending in (known.lower() for known in plugin["file_extensions"]):
            signals = importlib.import_module(plugin["api"]).file_reader(str(path))
            images = [signal for signal in signals if len(signal["axes"]) in (2, 3)]
            if not images:
                raise InputError(f"{option}: {path} holds no image, expected rows and columns")
            return images[0]
    raise InputError(f"{option}: {path} ends with {path.suffix!r}, which no reader knows")
