"""Images of a table, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import Result


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Of all images; vacuum is 1."""

    mean: float
    min: float
    max: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationResult(Result):
    """How many images, and their intensity; the images are in `arrays.npz`."""

    images: int
    intensity: Intensity
