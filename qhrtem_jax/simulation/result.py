"""Images of a table, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import GridSizes, Result


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Of all images; vacuum is 1."""

    mean: float
    min: float
    max: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationResult(Result):
    """How many images, and their intensity; the images are in `arrays.npz`."""

    grid: GridSizes
    images: int
    intensity: Intensity
