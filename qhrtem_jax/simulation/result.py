"""Images of a table, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import GridSizes, Result


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Of all images; vacuum is 1."""

    mean: float
    min: float
    max: float


@dataclasses.dataclass(frozen=True)
class Phonons:
    """How vibrations were simulated; of `frozen`: displaced lattices, cells (rows, cols) that
    vibrate independently, and what so few lattices leave open: the rms of the mean image's standard
    error, the largest of all images."""

    model: str
    configurations: int | None
    cells: tuple[int, int] | None
    standard_error: float | None


@dataclasses.dataclass(frozen=True)
class Diffraction:
    """Of all patterns, the incident beam 1: what is within the band of the grid, and what of it is
    elastic; `step_per_nm`: (y, x) from one pixel to the next."""

    step_per_nm: tuple[float, float]
    total: float
    elastic: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationResult(Result):
    """How many images, and their intensity; the images are in `arrays.npz`."""

    grid: GridSizes
    images: int
    intensity: Intensity
    phonons: Phonons
    diffraction: Diffraction | None
