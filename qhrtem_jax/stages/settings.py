"""Typed settings of a run, built strictly from a plain nested mapping.

Every unknown key, wrong type or value outside its choices raises `InputError` with the full name of
the field, before any work starts.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from qhrtem_jax.bayesopt.acquisition import ACQUISITIONS
from qhrtem_jax.bayesopt.turbo import SURROGATES
from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.columns import FILLS
from qhrtem_jax.physics.parameters import NAMES

LARGEST_MTF_SCALE_STD = 0.05

STAGES = ("simulate", "imaging", "structure", "reconstruct", "stitch", "pipeline")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Files and regions of the experiment; see the README's table of options."""

    image: str | None = None
    shape: tuple[int, int] | None = None
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
    slices: int = 4
    grid: tuple[int, int] | str = "auto"
    grid_error: float = 1e-4
    scattering: str = "weickenmeier_kohl"
    max_cells: int = 7
    fill: str = "entrance"

    CHOICES: typing.ClassVar = {
        "scattering": ("weickenmeier_kohl", "lobato", "kirkland"),
        "fill": FILLS,
    }
    POSITIVE: typing.ClassVar = ("max_cells",)


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
    surrogate: str = "composite"
    profile: tuple[str, ...] = ("thickness", "shift")
    max_evaluations: int = 256
    max_seconds: float | None = None
    batch: int = 8
    beta: float = 0.25
    initial_points: int | None = None
    training_points: int = 256
    fixed_noise: float | None = None
    minimum_length: float = 0.5**5
    improvement: float = 0.01
    starts: int = 6
    max_iterations: int = 60

    CHOICES: typing.ClassVar = {
        "name": ("turbo", "lm", "hybrid"),
        "acquisition": ACQUISITIONS,
        "surrogate": SURROGATES,
    }
    POSITIVE: typing.ClassVar = (
        "max_evaluations",
        "max_seconds",
        "batch",
        "beta",
        "initial_points",
        "training_points",
        "fixed_noise",
        "minimum_length",
        "improvement",
        "starts",
        "max_iterations",
    )


@dataclasses.dataclass(frozen=True)
class SimulateSettings:
    """Input and output of the simulate stage."""

    table: str | None = None
    out: str | None = None
    save_wave: bool = False


@dataclasses.dataclass(frozen=True)
class ImagingSettings:
    """Hands over what an earlier run found: its folder, or a JSON with `parameters`."""

    result: str | None = None


@dataclasses.dataclass(frozen=True)
class StructureSettings:
    """Refinement of column positions and occupancies; priors are standard deviations."""

    imaging: str = "alternate"
    position_std_nm: float = 0.01
    occupancy_std: float = 0.2
    rounds: int = 4

    CHOICES: typing.ClassVar = {"imaging": ("fixed", "alternate", "joint")}
    POSITIVE: typing.ClassVar = ("position_std_nm", "occupancy_std", "rounds")


@dataclasses.dataclass(frozen=True)
class ReconstructSettings:
    """Numbers of atoms of every region of interest."""

    positions: bool = True
    surface_rule: bool = True
    roughness_cells: float | None = 1.0
    position_std_nm: float = 0.01
    max_evaluations: int = 64
    passes: int = 8

    POSITIVE: typing.ClassVar = ("position_std_nm", "passes", "roughness_cells")


@dataclasses.dataclass(frozen=True)
class StitchSettings:
    """One model of the field from its regions, and its joint refinement."""

    result: str | None = None
    rounding: str = "cell"
    refine: bool = True
    sweeps: int = 6
    charges: dict[str, float] | None = None

    CHOICES: typing.ClassVar = {"rounding": ("cell", "none")}
    POSITIVE: typing.ClassVar = ("sweeps",)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Everything that a run depends on."""

    stage: str
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    resume: bool = False
    overwrite: bool = False
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    specimen: SpecimenSettings = dataclasses.field(default_factory=SpecimenSettings)
    microscope: MicroscopeSettings = dataclasses.field(default_factory=MicroscopeSettings)
    parameters: dict[str, ParameterSettings] = dataclasses.field(default_factory=dict)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    simulate: SimulateSettings = dataclasses.field(default_factory=SimulateSettings)
    imaging: ImagingSettings = dataclasses.field(default_factory=ImagingSettings)
    structure: StructureSettings = dataclasses.field(default_factory=StructureSettings)
    reconstruct: ReconstructSettings = dataclasses.field(default_factory=ReconstructSettings)
    stitch: StitchSettings = dataclasses.field(default_factory=StitchSettings)

    CHOICES: typing.ClassVar = {
        "stage": STAGES,
        "device": ("auto", "cpu", "gpu"),
        "precision": ("float32", "float64"),
    }

    def parameter(self, name: str) -> ParameterSettings:
        return self.parameters.get(name, ParameterSettings())


def run_settings(content: Mapping[str, Any]) -> RunSettings:
    """Settings from a nested mapping.

    **Raises:** `InputError` that names the field, what was found and what was expected.
    """
    content = dict(content)
    parameters = dict(content.get("parameters") or {})
    written_for = parameters.pop("convention", None)
    content["parameters"] = parameters
    settings = _dataclass(RunSettings, content, "")
    if written_for not in (None, settings.microscope.aberration_convention):
        raise InputError(
            f"parameters.convention: these parameters are written for {written_for!r}, the "
            f"microscope's numbers are in {settings.microscope.aberration_convention!r} "
            "(microscope.aberration_convention)"
        )
    if settings.seed < 0:
        raise InputError(f"seed: found {settings.seed}, expected 0 or above")
    for name in settings.parameters:
        if name not in NAMES:
            raise InputError(
                f"parameters.{name}: unknown parameter, expected one of {', '.join(NAMES)}"
            )
    if not 0.0 <= settings.data.mtf_scale_std <= LARGEST_MTF_SCALE_STD:
        raise InputError(
            f"data.mtf_scale_std: found {settings.data.mtf_scale_std}, expected 0 to "
            f"{LARGEST_MTF_SCALE_STD} (images are linear in the scale)"
        )
    unknown = set(settings.optimizer.profile) - {"thickness", "shift"}
    if unknown:
        raise InputError(
            f"optimizer.profile: found {sorted(unknown)}, expected some of [thickness,shift]"
        )
    if settings.specimen.slices < 1:
        raise InputError(f"specimen.slices: found {settings.specimen.slices}, expected at least 1")
    grid = settings.specimen.grid
    if isinstance(grid, str) and grid != "auto":
        raise InputError(f"specimen.grid: found {grid!r}, expected [rows,cols] or auto")
    if not settings.specimen.grid_error > 0.0:
        raise InputError("specimen.grid_error: expected a positive rms of the image")
    for group in ("optimizer", "specimen", "structure", "reconstruct", "stitch"):
        section = getattr(settings, group)
        for name in getattr(section, "POSITIVE", ()):
            value = getattr(section, name)
            if value is not None and not value > 0:
                raise InputError(f"{group}.{name}: found {value}, expected above 0")
    for name in ("rois", "average"):
        value = getattr(settings.data, name)
        if isinstance(value, str) and value != "auto":
            raise InputError(f"data.{name}: found {value!r}, expected [[row0,col0],...] or auto")
    return settings


def _dataclass(kind: type, content: Any, path: str) -> Any:
    if not isinstance(content, Mapping):
        raise InputError(f"{path or 'settings'}: found {content!r}, expected a group of options")
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            raise InputError(
                f"{path}{'.' if path else ''}{key}: unknown option, expected one of "
                f"{', '.join(sorted(fields))}"
            )
    values = {}
    for key, value in content.items():
        where = f"{path}.{key}" if path else key
        values[key] = _convert(hints[key], value, where)
        choices = getattr(kind, "CHOICES", {}).get(key)
        if choices is not None and values[key] not in choices:
            raise InputError(f"{where}: found {value!r}, expected one of {', '.join(choices)}")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, or an `InputError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return _convert(option, value, where)
            except InputError as error:
                errors.append(str(error))
        raise InputError(errors[0])
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: found {value!r}, expected a group of options")
        return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_tuple(arguments: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where}: found {value!r}, expected a list")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], v, f"{where}[{k}]") for k, v in enumerate(value))
    if len(value) != len(arguments):
        raise InputError(f"{where}: found {list(value)}, expected {len(arguments)} numbers")
    pairs = zip(arguments, value, strict=True)
    return tuple(_convert(hint, v, f"{where}[{k}]") for k, (hint, v) in enumerate(pairs))


def _convert_scalar(hint: type, value: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        if not math.isfinite(value):
            raise InputError(f"{where}: found {value}, expected a finite number")
        return float(value)
    if hint is int and number and float(value).is_integer():
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    raise InputError(f"{where}: found {value!r}, expected {names[hint]}")
