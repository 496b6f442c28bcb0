"""Typed settings of a run, built strictly from a plain nested mapping.

Every unknown key, wrong type or value outside its choices raises `InputError` with the full name of
the field, before any work starts.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping

from qhrtem_jax.bayesopt.acquisition import ACQUISITIONS
from qhrtem_jax.bayesopt.turbo import OUTPUTS, SURROGATES
from qhrtem_jax.engines.settings import EngineOptions
from qhrtem_jax.errors import InputError, raise_all
from qhrtem_jax.inputs.conversion import shown, typed
from qhrtem_jax.inputs.units import without_units
from qhrtem_jax.matching.criteria import CRITERIA, SumOfSquares
from qhrtem_jax.physics.columns import FILLS
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.physics.specimen import LARGEST_B_NM2

LARGEST_MTF_SCALE_STD = 0.05
"""Images are taken as linear in the scale."""

S = typing.TypeVar("S", bound="Settings")

_PIXELS = (1, 65536)
_ORIGIN = (0, 1_000_000)
STD_NM = (1e-6, 1.0)
"""Range of a prior of positions."""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Files and regions of the experiment; see the README's table of options."""

    image: str | tuple[str, ...] | None = None
    shape: tuple[int, int] | None = None
    stack: int | str = "mean"
    sampling_nm: tuple[float, float] | float | None = None
    mtf: str | None = None
    mtf_scale: float = 1.0
    mtf_scale_std: float = 0.02
    frame: tuple[int, int, int, int] | None = None
    roi_shape: tuple[int, int] | None = None
    rois: tuple[tuple[int, int], ...] | str | None = None
    average: tuple[tuple[int, int], ...] | tuple[tuple[tuple[int, int], ...], ...] | str | None = (
        None
    )
    vacuum: tuple[int, int, int, int] | None = None
    noise_variance: float | None = None
    noise_correlation: tuple[float, ...] | None = None
    noise_growth: float | None = None
    speckle: bool = True
    counts: bool | str = "auto"
    dark: str | None = None
    vacuum_image: str | None = None
    illumination: str = "none"
    mask: str | None = None
    prepared: str | None = None

    INPUTS: typing.ClassVar = ("image", "mtf", "dark", "vacuum_image", "mask", "prepared")
    CHOICES: typing.ClassVar = {"illumination": ("none", "plane")}
    RANGES: typing.ClassVar = {
        "shape": _PIXELS,
        "stack": (0, 1_000_000),
        "roi_shape": _PIXELS,
        "frame": _ORIGIN,
        "vacuum": _ORIGIN,
        "rois": _ORIGIN,
        "average": _ORIGIN,
        "sampling_nm": (1e-4, 0.5),
        "mtf_scale": (0.01, 100.0),
        "mtf_scale_std": (0.0, LARGEST_MTF_SCALE_STD),
        "noise_variance": (1e-12, 1e4),
        "noise_correlation": (-1.0, 1.0),
        "noise_growth": (0.0, 1.0),
    }

    @property
    def sampling(self) -> tuple[float, float]:
        """(row, column) sampling in nm.

        **Raises:** `InputError` where none is given.
        """
        if self.sampling_nm is None:
            raise InputError("data.sampling_nm: none given, expected nm per pixel, as 0.00887")
        pair = self.sampling_nm
        return pair if isinstance(pair, tuple) else (pair, pair)


@dataclasses.dataclass(frozen=True)
class SpecimenSettings:
    """The crystal and how it is sampled."""

    structure: str | None = None
    candidates: tuple[str, ...] | None = None
    zone: tuple[int, int, int] | None = None
    up: tuple[int, int, int] | None = None
    max_strain: float = 0.005
    b_nm2: dict[str, float] | None = None
    slices: int | str = "auto"
    grid: tuple[int, int] | str = "auto"
    grid_error: float = 1e-4
    scattering: str = "weickenmeier_kohl"
    max_cells: int = 7
    fill: str = "entrance"
    entrance: int | str = "auto"
    phonons: str = "none"
    configurations: int = 32
    phonon_cells: tuple[int, int] | str = "auto"
    trajectory: str | None = None

    INPUTS: typing.ClassVar = ("structure", "candidates", "trajectory")
    CHOICES: typing.ClassVar = {
        "phonons": ("none", "absorptive", "frozen"),
        "scattering": ("weickenmeier_kohl", "lobato", "kirkland"),
        "fill": FILLS,
    }
    RANGES: typing.ClassVar = {
        "zone": (-100, 100),
        "up": (-100, 100),
        "max_strain": (0.0, 0.05),
        "b_nm2": (0.0, LARGEST_B_NM2),
        "slices": (1, 1000),
        "grid": (8, 65536),
        "grid_error": (1e-7, 1.0),
        "max_cells": (1, 10_000),
        "entrance": (0, 1000),
        "configurations": (2, 100_000),
        "phonon_cells": (1, 1000),
    }

    @property
    def thermal_absorption(self) -> bool:
        """Whether the mean wave loses what vibrating atoms scatter diffusely."""
        return self.phonons == "absorptive"

    @property
    def entrance_sought(self) -> bool:
        """Whether the plane that the crystal begins with is to be found: a cell that was oriented
        here begins with any, a cell made for multislice with its first."""
        return isinstance(self.entrance, str) and self.zone is not None and self.fill == FILLS[0]


@dataclasses.dataclass(frozen=True)
class MicroscopeSettings:
    """The instrument."""

    high_tension_kv: float = 300.0
    aberration_convention: str = "haider"
    coherence: str = "focal_sum"
    compatibility: str = "none"

    CHOICES: typing.ClassVar = {
        "aberration_convention": ("haider", "drprobe", "krivanek"),
        "coherence": ("focal_sum", "explicit", "quasi_coherent"),
        "compatibility": ("none", "drprobe"),
    }
    RANGES: typing.ClassVar = {"high_tension_kv": (10.0, 10_000.0)}


@dataclasses.dataclass(frozen=True)
class ParameterSettings:
    """What is known of one parameter; None leaves the default."""

    value: float | None = None
    free: bool | None = None
    low: float | None = None
    high: float | None = None
    prior_mean: float | None = None
    prior_std: float | None = None


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """How the parameters are searched."""

    name: str = "hybrid"
    acquisition: str = "thompson"
    surrogate: str = "auto"
    output: str = "log"
    profile: tuple[str, ...] = ("thickness", "shift")
    max_evaluations: int = 256
    max_seconds: float | None = None
    batch: int = 8
    beta: float = 0.25
    beta_growth: float = 4.0
    initial_points: int | None = None
    initial_per_parameter: int = 2
    training_points: int | str = 256
    fixed_noise: float | None = None
    initial_length: float = 0.8
    minimum_length: float = 0.5**5
    maximum_length: float = 1.6
    successes_to_grow: int = 10
    failures_to_shrink: int | None = None
    improvement: float = 0.01
    starts: int = 6
    max_iterations: int = 60

    NO_IDENTITY: typing.ClassVar = ("max_seconds",)
    CHOICES: typing.ClassVar = {
        "name": ("turbo", "lm", "hybrid"),
        "acquisition": ACQUISITIONS,
        "surrogate": ("auto", *SURROGATES),
        "output": OUTPUTS,
    }
    RANGES: typing.ClassVar = {
        "max_evaluations": (1, 1_000_000),
        "max_seconds": (1e-3, 1e9),
        "batch": (1, 4096),
        "beta": (1e-6, 1e6),
        "beta_growth": (1.0, 1e6),
        "initial_points": (1, 1_000_000),
        "initial_per_parameter": (1, 1000),
        "training_points": (2, 4096),
        "fixed_noise": (1e-12, 1e3),
        "initial_length": (1e-9, 1e3),
        "minimum_length": (1e-9, 1.0),
        "maximum_length": (1e-9, 1e3),
        "successes_to_grow": (1, 1_000_000),
        "failures_to_shrink": (1, 1_000_000),
        "improvement": (1e-12, 1.0),
        "starts": (1, 10_000),
        "max_iterations": (1, 10_000),
    }

    @property
    def most_training_points(self) -> int:
        """Points that the surrogate is made from, at most."""
        known = self.training_points
        return self.max_evaluations if isinstance(known, str) else known


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings:
    """What the search for imaging parameters makes small."""

    criterion: str = "mse"

    CHOICES: typing.ClassVar = {"criterion": tuple(CRITERIA)}


@dataclasses.dataclass(frozen=True)
class ImagingSettings:
    """Hands over what an earlier run found: its folder, or a JSON with `parameters`."""

    result: str | None = None

    INPUTS: typing.ClassVar = ("result",)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every stage is told; each stage adds a group of its own."""

    stage: str
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    cores: int | str = "auto"
    memory_gb: float | str = "auto"
    resume: bool = False
    overwrite: bool = False
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    specimen: SpecimenSettings = dataclasses.field(default_factory=SpecimenSettings)
    microscope: MicroscopeSettings = dataclasses.field(default_factory=MicroscopeSettings)
    parameters: dict[str, ParameterSettings] = dataclasses.field(default_factory=dict)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    objective: ObjectiveSettings = dataclasses.field(default_factory=ObjectiveSettings)
    imaging: ImagingSettings = dataclasses.field(default_factory=ImagingSettings)
    engine: EngineOptions = dataclasses.field(default_factory=EngineOptions)

    CHOICES: typing.ClassVar = {
        "device": ("auto", "cpu", "gpu"),
        "precision": ("float32", "float64"),
    }
    RANGES: typing.ClassVar = {
        "seed": (0, 2**32 - 1),
        "memory_gb": (0.1, 1e6),
        "cores": (1, 1024),
    }

    def parameter(self, name: str) -> ParameterSettings:
        return self.parameters.get(name, ParameterSettings())


def read_settings(kind: type[S], content: object) -> S:
    """Settings of `kind` from a nested mapping.

    **Raises:** `InputError` that names the fields, what was found and what was expected.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"settings: found {shown(content)}, expected a group of options")
    content = dict(content)
    parameters = content.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise InputError(f"parameters: found {shown(parameters)}, expected a group of options")
    parameters = dict(parameters)
    written_for = parameters.pop("convention", None)
    content["parameters"], faults = without_units(parameters)
    try:
        settings = typed(kind, content)
    except InputError as error:
        raise_all([*faults, error])
        raise
    if written_for not in (None, settings.microscope.aberration_convention):
        raise InputError(
            f"parameters.convention: these parameters are written for {shown(written_for)}, the "
            f"microscope's numbers are in {settings.microscope.aberration_convention!r} "
            "(microscope.aberration_convention)"
        )
    faults += [
        InputError(f"parameters.{name}: unknown parameter, expected one of {', '.join(NAMES)}")
        for name in settings.parameters
        if name not in NAMES
    ]
    faults += [*_wrong_words(settings), *_wrong_criterion(settings)]
    chosen = settings.optimizer
    if chosen.initial_points is not None and chosen.initial_points > chosen.max_evaluations:
        fault = (
            f"optimizer.initial_points: found {chosen.initial_points}, expected at most "
            f"optimizer.max_evaluations={chosen.max_evaluations}"
        )
        faults.append(InputError(fault))
    raise_all(faults)
    return settings


def _wrong_criterion(settings: Settings) -> Iterator[InputError]:
    """Priors are weighed against likelihoods, and the composite surrogate models residuals."""
    criterion, optimizer = settings.objective.criterion, settings.optimizer
    kind = CRITERIA[criterion]
    squares = issubclass(kind, SumOfSquares)
    weighs = issubclass(kind, SumOfSquares) and kind.absolute
    priors = [n for n, known in settings.parameters.items() if known.prior_std is not None]
    for name, found, expected, wrong in (
        (
            "optimizer.surrogate",
            optimizer.surrogate,
            "auto, scalar or gpjax",
            optimizer.surrogate == "composite" and not squares,
        ),
        ("parameters", f"priors of {', '.join(priors)}", "none", bool(priors) and not weighs),
    ):
        if wrong:
            yield InputError(
                f"{name}: found {found}, expected {expected} with objective.criterion={criterion}"
            )


def _wrong_words(settings: Settings) -> Iterator[InputError]:
    """Options that are numbers, or a word instead."""
    unknown = set(settings.optimizer.profile) - {"thickness", "shift"}
    if unknown:
        yield InputError(
            f"optimizer.profile: found {shown(sorted(unknown))}, expected some of [thickness,shift]"
        )
    for name, value, expected in (
        ("specimen.grid", settings.specimen.grid, "[rows,cols]"),
        ("specimen.slices", settings.specimen.slices, "a number"),
        ("specimen.entrance", settings.specimen.entrance, "a number"),
        ("specimen.phonon_cells", settings.specimen.phonon_cells, "[rows,cols]"),
        ("data.rois", settings.data.rois, "[[row0,col0],...]"),
        ("data.average", settings.data.average, "[[row0,col0],...]"),
        ("cores", settings.cores, "a number"),
        ("memory_gb", settings.memory_gb, "a number of GiB"),
        ("engine.workers", settings.engine.workers, "a number"),
        ("data.counts", settings.data.counts, "true, false"),
    ):
        if isinstance(value, str) and value != "auto":
            yield InputError(f"{name}: found {shown(value)}, expected {expected} or auto")
    if (settings.engine.name == "dask") != (settings.engine.address is not None):
        yield InputError(
            f"engine.address: found {shown(settings.engine.address)}, expected that of a running "
            "scheduler with engine=dask, and none with others"
        )
    training = settings.optimizer.training_points
    if isinstance(training, str) and training != "all":
        yield InputError(
            f"optimizer.training_points: found {shown(training)}, expected a number or all"
        )
