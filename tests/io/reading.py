"""Images as a run takes them."""

from pathlib import Path

import numpy as np

from qhrtem_jax.io.images import check_normalised, read_counts


def read_image(
    path: Path, shape: tuple[int, int] | None = None, option: str = "image"
) -> np.ndarray:
    """The one image of a file, its vacuum at 1."""
    image = read_counts(path, shape, option)
    check_normalised(image, f"{option}: {path}", "normalise it")
    return image
