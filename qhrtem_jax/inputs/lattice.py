"""Where the cells of the lattice lie against the pixels of a field."""

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Columns


def cell_of(origin_px: tuple[int, int], columns: Columns, frame: Frame) -> Int[np.ndarray, " 2"]:
    """(row, column) of the lattice cell that the region at `origin_px` shows."""
    size = np.array(columns.size_nm[:2][::-1])
    return np.rint(np.array(origin_px) * np.array(frame.sampling_nm) / size).astype(int)


def lattice_drift(
    origin_px: tuple[int, int], columns: Columns, frame: Frame
) -> Float[np.ndarray, " 2"]:
    """Corner of that cell against the region's first pixel, (x, y) in nm: regions follow the
    pixels, the lattice does not."""
    size = np.array(columns.size_nm[:2][::-1])
    corner = cell_of(origin_px, columns, frame) * size
    return (corner - np.array(origin_px) * np.array(frame.sampling_nm))[::-1]
