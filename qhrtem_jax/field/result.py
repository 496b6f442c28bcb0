"""A stitched and refined field, as a result."""

import dataclasses

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, Fit, FitResult


@dataclasses.dataclass(frozen=True)
class Surface:
    """First and last slice of a chain in the field's stack, from 1; null where it is empty."""

    species: str
    x: float
    y: float
    first_slice: int | None
    last_slice: int | None


@dataclasses.dataclass(frozen=True)
class Shift:
    """A displacement in pm, with standard errors."""

    dx_pm: float
    dy_pm: float
    std_dx_pm: float
    std_dy_pm: float


@dataclasses.dataclass(frozen=True)
class ColumnShift(Shift):
    """Of the column at `x`, `y` (fractions of the cell)."""

    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class Displacement:
    """Of the columns of `species` against those of another one beside them, and their mean."""

    species: str
    against: str
    columns: tuple[ColumnShift, ...]
    mean: Shift


@dataclasses.dataclass(frozen=True)
class Polarisation:
    """Of a cell, in uC/cm^2, with standard errors."""

    Px: float
    Py: float
    std_Px: float
    std_Py: float


@dataclasses.dataclass(frozen=True)
class TrendLine:
    """A line through the values of all regions (pm over nm): its slope with its standard error and
    how probable one as steep is by chance; the mean with its error; the covariance of slope and
    mean; how much the values scatter about the line beyond their errors (standard deviation)."""

    slope_pm_per_nm: float
    std_slope_pm_per_nm: float
    p_value: float
    mean_pm: float
    std_mean_pm: float
    covariance_pm2_per_nm: float
    scatter_pm: float


@dataclasses.dataclass(frozen=True)
class Trend:
    """A quantity of each region's cell (pm, against the ideal cell; null errors: the image does not
    determine it), over the region's thickness and its distance from the nearest vacuum (null: none
    in the image)."""

    quantity: str
    values_pm: tuple[float, ...]
    std_pm: tuple[float | None, ...]
    thickness_nm: tuple[float, ...]
    edge_nm: tuple[float, ...] | None
    over_thickness: TrendLine | None
    over_edge: TrendLine | None


@dataclasses.dataclass(frozen=True)
class RemainingPart:
    """Variance per pixel of a part of what the refined field leaves over, and of the camera's noise
    in it before any fit (null: not known)."""

    name: str
    power: float
    noise: float | None


@dataclasses.dataclass(frozen=True)
class RemainingBand:
    """Its power between two frequencies, on those of the lattice (null: there are none; of the
    mean cell, times the number of regions) and between them, and that of the camera's noise (null:
    not known); white noise would have its variance in each."""

    from_per_nm: float
    to_per_nm: float
    on_lattice: float | None
    between: float
    noise: float | None


@dataclasses.dataclass(frozen=True)
class Remains:
    """What the refined field leaves over, in parts that add up, and by frequency."""

    parts: tuple[RemainingPart, ...]
    bands: tuple[RemainingBand, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldEntry(RegionEntry):
    """A region after the joint refinement: its height in cells, its shift as a whole against the
    ideal lattice (x, y in pm), its surfaces, displacement and polarisation."""

    height_cells: int | None = dataclasses.field(default=None, metadata=OPTIONAL)
    lattice_offset_pm: tuple[float, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    surfaces: tuple[Surface, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    displacement: Displacement | None = dataclasses.field(default=None, metadata=OPTIONAL)
    polarisation_uC_cm2: Polarisation | None = dataclasses.field(default=None, metadata=OPTIONAL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Integrated:
    """The field as one (the paper's section 4.3): `fit` of the stitched, `fit_refined` of the
    refined model, both over the union of the regions, and over the whole image, vacuum and all (as
    the paper gives it); the C1 (at the deepest exit plane) and the absorption that the stitched
    image was simulated with; how many slices each region lies above that plane; the regions'
    heights in cells; the slice of the cell that the crystal begins with; how displacements and
    distances of layers go with thickness and with the distance from the edge; what the refined
    field leaves over."""

    fit: Fit
    fit_image: Fit
    C1_global_nm: float
    absorption_global: float
    shifts_slices: tuple[float, ...]
    fit_refined: Fit | None = dataclasses.field(default=None, metadata=OPTIONAL)
    fit_refined_image: Fit | None = dataclasses.field(default=None, metadata=OPTIONAL)
    C1_global_refined_nm: float | None = dataclasses.field(default=None, metadata=OPTIONAL)
    heights_cells: tuple[int, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    entrance_slice: int | None = dataclasses.field(default=None, metadata=OPTIONAL)
    trends: tuple[Trend, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    remains: Remains | None = dataclasses.field(default=None, metadata=OPTIONAL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldResult(FitResult):
    """The regions of the field, and the field as one."""

    rois: tuple[FieldEntry, ...]
    field: Integrated
    cell: Columns = dataclasses.field(metadata=ASIDE)
