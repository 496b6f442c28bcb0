"""What was found in an image, and how soon, as a result."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.reporting.result import ASIDE, Result


@dataclasses.dataclass(frozen=True)
class ExploreStep:
    """After so many `points`: SSIM of the reconstruction with the target; mean standard deviation
    of the reconstruction; share of the truth's pixels within half a window of a point, along both
    axes (null where no truth is given); length of the way in pixels."""

    points: int
    ssim: float | None
    uncertainty: float
    found: float | None
    way_px: float


@dataclasses.dataclass(frozen=True)
class AtomColumns:
    """Columns that were found, their number and how sure they are on the mean."""

    number: int
    sure: float


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in pixels of the image (of `data.frame`), and the target there."""

    x_px: int
    y_px: int
    value: float


@dataclasses.dataclass(frozen=True)
class Exploration:
    """The workflow; side of a window and distance from one to the next in pixels; which map is the
    target and why; what each step says; the most anomalous place; the columns that were found
    (null where none were looked for)."""

    workflow: str
    acquisition: str
    kernel: str
    window_px: int
    step_px: float
    component: int
    why: str
    steps: tuple[ExploreStep, ...]
    strongest: Place
    columns: AtomColumns | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplorationResult(Result):
    """Arrays, on the grid of windows: `target`, `reconstruction`, `uncertainty`, `maps` (all that
    the target was chosen from); `rows`, `cols` (pixels of the grid); `points_px` (row, col of all
    points in the order of the way), perhaps `columns_px`; `image`."""

    explore: Exploration
    seen_after: tuple[tuple[int, Float[np.ndarray, "rows cols"]], ...] = dataclasses.field(
        default=(), metadata=ASIDE
    )  # reconstructions on the way
