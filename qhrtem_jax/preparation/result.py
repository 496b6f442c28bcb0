"""A prepared image, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import OPTIONAL, Result


@dataclasses.dataclass(frozen=True)
class FoundLattice:
    """Edges of the projected cell in pixels of the file, (x, y): `a_px` along the cell's x,
    `b_px` along its y, pointing down (up where the crystal stands the other way round); their
    errors; the angle of a against x, counterclockwise, in nm; nm per pixel (row, col) that
    the crystal says, and that the file says; the share of the image's spectrum that lies in the
    crystal's reflections."""

    a_px: tuple[float, float]
    b_px: tuple[float, float]
    std_px: tuple[tuple[float, float], tuple[float, float]]
    angle_deg: float
    std_angle_deg: float
    sampling_nm: tuple[float, float]
    std_sampling: float
    file_sampling_nm: tuple[float, float] | None
    explained: float


@dataclasses.dataclass(frozen=True)
class FoundVacuum:
    """Level of the vacuum in the file's unit, where it is, and the noise of a pixel of the file,
    with the vacuum at 1; by how much its variance grows from there to twice the intensity, in units
    of itself (`micrograph.noise_growth`), where the image tells."""

    level: float
    region: tuple[int, int, int, int]
    noise_variance: float
    noise_correlation: tuple[float, ...]
    noise_growth: float | None
    std_noise_growth: float | None


@dataclasses.dataclass(frozen=True)
class FoundOrigin:
    """Where the crystal's cell begins: `xy_px` of one cell's corner; `turned`: the crystal stands
    the other way round than the settings say, and its cell was turned; NCC of the image of the
    chosen place and of the next best; misfits of single cells at those that came into question."""

    xy_px: tuple[float, float]
    turned: bool
    ncc: float
    ncc_elsewhere: float
    misfits: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class FoundRegion:
    """A whole cell: its corners (x, y) in pixels of the file in the order origin, +a, +a+b, +b; its
    first pixel in the prepared image."""

    name: str
    corners_px: tuple[tuple[float, float], ...]
    origin_px: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the prepared image (`image` in `arrays.npz`) is: pixels (rows, cols) of a cell, nm per
    pixel, the side of the file's pixels against theirs, noise of a pixel, and the share of its
    pixels that the file shows (others are taken from a like place of a cell beside them)."""

    roi_shape: tuple[int, int]
    sampling_nm: tuple[float, float]
    pixel_ratio: float
    noise_variance: float | None
    noise_correlation: tuple[float, ...] | None
    noise_growth: float | None
    seen: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparationResult(Result):
    """The lattice, the vacuum, bad pixels, and the whole cells as regions."""

    lattice: FoundLattice
    vacuum: FoundVacuum | None = dataclasses.field(default=None, metadata=OPTIONAL)
    origin: FoundOrigin
    bad_pixels: int
    prepared: Prepared
    rois: tuple[FoundRegion, ...]
