"""A field over time, as a result."""

import dataclasses

from qhrtem_jax.field.result import Displacement
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.reporting.column_tables import Column, Count
from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, Fit, FitResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameRegion:
    """A region in a frame: numbers of atoms, columns, thickness in nm, displacement of cations
    against oxygen (`ti_o_dy_pm`: that of titanium along y, the mean of the cell)."""

    name: str
    origin_px: tuple[int, int]
    thickness_nm: float
    fit: Fit
    counts: tuple[Count, ...]
    columns: tuple[Column, ...]
    displacement: Displacement | None = dataclasses.field(default=None, metadata=OPTIONAL)
    ti_o_dy_pm: float | None = dataclasses.field(default=None, metadata=OPTIONAL)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame: how far it lies over the specimen from the first (x, y in pixels, positive where the
    specimen has moved to smaller x, y in the image), with standard errors; C1 at the deepest
    exit plane of the first frame, tilt; its regions."""

    drift_px: tuple[float, float]
    std_drift_px: tuple[float | None, float | None]
    C1_nm: float
    tilt_mrad: tuple[float, float]
    fit: Fit
    rois: tuple[FrameRegion, ...]


@dataclasses.dataclass(frozen=True)
class Event:
    """A number of atoms that changes: the first frame with the new one, by how many atoms, the
    probability that it changed so within one frame of then."""

    roi: str
    species: str
    x: float
    y: float
    frame: int
    change: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds until the first frame was known as a field, and frames per second after that."""

    first_s: float
    frames_per_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesResult(FitResult):
    """Frames, and what changed between them; parameters and noise are the first frame's."""

    frames: tuple[Frame, ...]
    events: tuple[Event, ...]
    pace: Pace
    cell: Columns = dataclasses.field(metadata=ASIDE)
