"""What every stage's result holds, and how it becomes `result.json`.

A result is a frozen dataclass. Its fields are the keys of `result.json`, but for those marked
`ASIDE` (arrays, models, what only the page needs); an `OPTIONAL` one is left out where it is None.
`docs/result.schema.json` is made from these classes (`reporting.schema`).
"""

import dataclasses
import platform
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.identity import input_files
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.cost import Cost
from qhrtem_jax.io.journal import Row
from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.io.run_folder import SCHEMA
from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.matching import criteria
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.parameters import INDEX, NAMES, UNITS
from qhrtem_jax.version import VERSION

NCC_REACH = 6
"""Largest shift, in pixels, at which the peak of the NCC map is looked for."""

ASIDE = {"aside": True}
"""Metadata of a field that is no key of `result.json`."""

OPTIONAL = {"optional": True}
"""Metadata of a field that is a key of `result.json` only where it is not None."""


Rows = tuple[list[str], list[list[str]]]
"""Header and rows of a table."""


@dataclasses.dataclass(frozen=True)
class InputFile:
    """Name and checksum of a file that was read."""

    name: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Input:
    """What was read, by option."""

    files: dict[str, InputFile]


@dataclasses.dataclass(frozen=True)
class Device:
    """Where it was computed."""

    platform: str
    kind: str


@dataclasses.dataclass(frozen=True)
class GridSizes:
    """Points (rows, cols) of the wave and of the image, number of foci, estimated rms error of the
    image (null where the grid was given)."""

    wave: tuple[int, int]
    image: tuple[int, int]
    foci: int
    image_error_rms: float | None


@dataclasses.dataclass(frozen=True)
class OnCrystal:
    """What weighs the pixels besides the camera's noise, with standard errors: disordered layers,
    as nm of the crystal's own kinds of atoms, and an unexplained intensity of white spectrum, as
    variance of a pixel."""

    exit_nm: float
    std_exit_nm: float
    entrance_nm: float
    std_entrance_nm: float
    unexplained: float
    std_unexplained: float


@dataclasses.dataclass(frozen=True)
class Band:
    """Mean power within a band of frequencies (1/nm; white noise has its variance): of the
    residual, and of each part of the noise; `chi2_reduced`: of the residual against the camera's
    noise and both layers, which tells what neither explains."""

    from_per_nm: float
    to_per_nm: float
    residual: float
    camera: float
    exit_layer: float
    entrance_layer: float
    unexplained: float
    chi2_reduced: float


@dataclasses.dataclass(frozen=True)
class Noise:
    """Variance of a pixel of the vacuum, correlation with the next pixels, where they are known
    from, and by how much the variance grows from intensity 1 to 2, over what it is at 1;
    `speckle`, where the misfit is taken as that, and the residual's power by band then."""

    variance: float
    correlation: tuple[float, ...]
    source: str
    growth: float = 0.0
    speckle: OnCrystal | None = dataclasses.field(default=None, metadata=OPTIONAL)
    bands: tuple[Band, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Every criterion of a simulation against the experiment, means and deviations of both; `ncc`
    at zero shift, `ncc_peak` at the best whole-pixel shift."""

    mse: float
    ncc: float
    ncc_peak: float | None
    ncc_peak_offset_px: float | None
    ssim: float | None
    chi2_reduced: float | None
    r_factor: float
    contrast_exp: float
    contrast_sim: float
    mean_exp: float
    std_exp: float
    mean_sim: float
    std_sim: float
    mean_diff: float
    std_diff: float


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An imaging parameter; `std_noise` from the noise alone, `std` scaled by the misfit, null
    where the image does not determine it."""

    value: float
    std: float | None
    std_noise: float | None
    unit: str
    free: bool


@dataclasses.dataclass(frozen=True)
class Covariance:
    """Of fitted parameters, in their units, scaled by the misfit as `std` is; what the image does
    not determine is as uncertain as its bounds."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Correlation:
    """A strong correlation of two fitted quantities."""

    a: str
    b: str
    r: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was computed, by whom, from what, in which conventions."""

    schema: str
    stage: str
    status: str
    seed: int
    settings: Settings
    input: Input
    device: Device
    versions: dict[str, str]
    conventions: dict[str, str]
    warnings: tuple[str, ...]
    cost: Cost
    arrays: Arrays = dataclasses.field(metadata=ASIDE)
    structures: dict[str, AtomModel] = dataclasses.field(default_factory=dict, metadata=ASIDE)
    tables: dict[str, Rows] = dataclasses.field(default_factory=dict, metadata=ASIDE)
    history: tuple[Row, ...] = dataclasses.field(default=(), metadata=ASIDE)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`, in plain containers."""
        return as_json(self)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a fit is worth: good, doubtful or wrong model; why, and what to look at next."""

    word: str
    why: str
    try_next: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult(Result):
    """Of a stage that fits images."""

    grid: GridSizes
    noise: Noise
    fit: Fit
    parameters: dict[str, Parameter]
    correlations: tuple[Correlation, ...]
    verdict: Verdict | None = dataclasses.field(default=None, metadata=OPTIONAL)


def as_json(value: Any) -> Any:
    """Dataclasses and tuples as dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: as_json(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not f.metadata.get("aside")
            and not (f.metadata.get("optional") and getattr(value, f.name) is None)
        }
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def header(settings: Settings, reader: Reader) -> dict[str, Any]:
    """The fields of a `Result` that say who computed what, with what, in which conventions."""
    device = jax.devices()[0]
    return {
        "schema": SCHEMA,
        "stage": settings.stage,
        "status": "done",
        "seed": settings.seed,
        "settings": settings,
        "input": Input({o: InputFile(**f) for o, f in input_files(settings, reader).items()}),
        "device": Device(device.platform, device.device_kind),
        "versions": {
            "qhrtem_jax": VERSION,
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "equinox", "numpy")},
        },
        "conventions": {
            "aberrations": settings.microscope.aberration_convention,
            "C1": "C1 > 0 acts like free propagation behind the object",
            "A0": "A0 > 0 moves the image to larger x, y; x runs along columns, y along rows",
            "tilt": "object tilt as Dr. Probe: positive moves the wave by -tilt * thickness",
            "focus_spread": "1/e half-width",
            "semi_convergence": "1/e half-width",
            "image_spread": "rms of a Gaussian",
            "drift": "way during the exposure, at a steady pace",
            "difference": "simulation - experiment",
        },
    }


def figures_of_merit(
    simulation: Float[np.ndarray, "rows cols"],
    experiment: Float[np.ndarray, "rows cols"],
    chi2_reduced: float | None,
) -> Fit:
    """Every criterion of `matching.criteria`, with means and deviations; chi-square comes from
    whoever knows the noise."""
    sim, exp = jnp.asarray(simulation), jnp.asarray(experiment)
    difference = simulation - experiment
    small = min(experiment.shape) < 12
    peak = offset = None
    if not small:
        ncc_map = np.asarray(criteria.ncc_map(sim, exp, NCC_REACH))
        peak, offset = float(ncc_map.max()), float(np.hypot(*_peak(ncc_map)))
    return Fit(
        mse=float(criteria.mean_squared_error(sim, exp)),
        ncc=float(criteria.normalised_cross_correlation(sim, exp)),
        ncc_peak=peak,
        ncc_peak_offset_px=offset,
        ssim=None if small else float(criteria.structural_similarity(sim, exp)),
        chi2_reduced=chi2_reduced,
        r_factor=float(criteria.r_factor(sim, exp)),
        contrast_exp=float(criteria.contrast(exp)),
        contrast_sim=float(criteria.contrast(sim)),
        mean_exp=float(np.mean(experiment)),
        std_exp=float(np.std(experiment)),
        mean_sim=float(np.mean(simulation)),
        std_sim=float(np.std(simulation)),
        mean_diff=float(np.mean(difference)),
        std_diff=float(np.std(difference)),
    )


def _peak(ncc_map: np.ndarray) -> tuple[float, float]:
    """Offset (dy, dx) in pixels of the map's maximum from its centre."""
    reach = ncc_map.shape[0] // 2
    row, col = np.unravel_index(np.argmax(ncc_map), ncc_map.shape)
    return float(row - reach), float(col - reach)


def merit(fit: Fit) -> str:
    """The two figures of merit that every stage names."""
    return f"MSE {fit.mse:.6f}, NCC {100 * fit.ncc:.2f} %"


def grid_sizes(choice: GridChoice) -> GridSizes:
    """The `grid` of a result."""
    return GridSizes(choice.grid, choice.image, choice.source.foci, choice.error)


def noise_of(noise: NoiseModel, bands: tuple[Band, ...] | None = None) -> Noise:
    """The `noise` of a result; `bands`, of its residual where it has speckle."""
    speckle = None
    if noise.speckle is not None:
        pairs = zip(noise.speckle.amounts, noise.speckle.std, strict=True)
        speckle = OnCrystal(*(float(x) for pair in pairs for x in pair))
    lags, growth = tuple(noise.lags), noise.growth if noise.grows else 0.0
    return Noise(noise.variance, lags, noise.source, growth, speckle, bands)


def noise_remarks(noise: NoiseModel) -> tuple[str, ...]:
    """What a result must say of a noise that was measured from the residual; that of the vacuum is
    spoken of where it is read."""
    return (noise.remark,) if noise.remark is not None and noise.source == "residual" else ()


def parameter_table(
    vector: Float[np.ndarray, " parameters"],
    free: set[str],
    std_noise: dict[str, float | None],
    std: dict[str, float | None],
) -> dict[str, Parameter]:
    """The `parameters` of a result."""
    table = {}
    for name in NAMES:
        value = float(vector[INDEX[name]])
        table[name] = Parameter(
            round(value) if name == "thickness" else value,
            std.get(name),
            std_noise.get(name),
            UNITS[name],
            name in free,
        )
    return table


def correlations_of(pairs: list[dict[str, Any]], prefix: str = "") -> tuple[Correlation, ...]:
    """The `correlations` of a result, `prefix` before the names."""
    return tuple(Correlation(prefix + p["a"], prefix + p["b"], p["r"]) for p in pairs)
