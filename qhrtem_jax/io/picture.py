"""Images from PNG files, whose size is checked before they are unpacked."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.image_size import MOST_COMPRESSION, check_declared

_GREY = {"L": "u1", "I;16": "u2", "I;16B": "u2", "I": "i4", "1": "u1"}
"""Kinds of grey pixels by the name that Pillow gives them."""


def read_png(path: Path, option: str) -> Shaped[np.ndarray, "rows cols"]:
    """The grey image of a PNG file.

    **Raises:** `InputError` for one that is not as declared, or in colours; Pillow's errors for a
    damaged file.
    """
    from PIL import PngImagePlugin  # not `Image.open`, which would take any format

    size, where = file_size(path, option), f"{option}: {path}"
    with PngImagePlugin.PngImageFile(path) as image:
        if image.mode not in _GREY:
            raise InputError(
                f"{where} is a picture in colours ({image.mode}), expected grey intensities"
            )
        cols, rows = image.size
        check_declared(where, (rows, cols), np.dtype(_GREY[image.mode]), size, MOST_COMPRESSION)
        return np.asarray(image).astype(_GREY[image.mode])
