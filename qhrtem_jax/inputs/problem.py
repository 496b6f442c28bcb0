"""From settings to a checked problem: image, specimen, microscope, noise, simulator."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.handover import HANDED_OVER, content_digest
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.rois import (
    check_contrast,
    choose_average,
    find_regions,
    overlapping,
    refuse_repeated,
    roi_shape,
)
from qhrtem_jax.inputs.settings import DataSettings, RunSettings
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.images import crop, read_image
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.run_folder import RESULT
from qhrtem_jax.io.seal import sha256
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.matching.noise import NoiseModel, measure_noise
from qhrtem_jax.physics.autogrid import GridChoice, choose_grids
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Microscope, Simulator, make_simulator
from qhrtem_jax.physics.specimen import Crystal

LARGEST_INPUT = 4 * 2**30
"""Bytes of a file, all of which are read for its checksum."""

Warn = Callable[[str], None]
Origins = tuple[tuple[int, int], ...]

_EXAMPLE_GROUPS = ("data", "specimen", "microscope", "simulate", "optimizer")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The image that is fitted, and its noise (None: to be taken from the residual); `others`:
    further means that are fitted together with it."""

    image: np.ndarray  # (rows, cols), vacuum 1
    frame: Frame
    noise: NoiseModel | None
    others: tuple[np.ndarray, ...] = ()


def with_example(content: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Settings with the embedded example's data where none are named, and whether that was so.

    Once an image, a structure or a table of simulations is named, nothing of the example remains.
    """
    if any(not isinstance(content.get(name) or {}, Mapping) for name in _EXAMPLE_GROUPS):
        return content, False  # settings that are refused
    named = any(
        (content.get(group) or {}).get(key) is not None
        for group, key in (("data", "image"), ("specimen", "structure"), ("simulate", "table"))
    )
    if named:
        return content, False
    folder = resources.files("qhrtem_jax").joinpath("example")
    example = json.loads(folder.joinpath("example.json").read_text("utf-8"))
    for group, key in (("data", "image"), ("data", "mtf"), ("specimen", "structure")):
        example[group][key] = str(folder.joinpath(example[group][key]))
    defaults = dataclasses.asdict(RunSettings("imaging"))
    merged = dict(content)
    for name, values in example.items():
        group = dict(content.get(name) or {})
        for key, value in values.items():
            # what the user set to something else than the default stays
            if group.get(key) in (None, defaults[name][key]):
                group[key] = value
        merged[name] = group
    return merged, True


def load_crystal(settings: RunSettings) -> Crystal:
    """The specimen's cell."""
    if settings.specimen.structure is None:
        raise InputError("specimen.structure: none given, expected a .cel or .cif file")
    crystal = read_structure(Path(settings.specimen.structure), settings.specimen.slices)
    size.check_cell(crystal, settings.specimen.structure)
    return crystal


def load_microscope(settings: RunSettings, warn: Warn) -> Microscope:
    """The instrument with its camera; a missing MTF is a warning."""
    known = settings.microscope
    mtf = None
    if settings.data.mtf is not None:
        mtf = read_mtf(Path(settings.data.mtf), settings.data.mtf_scale)
    else:
        warn("no data.mtf given: the camera is taken as perfect but for its pixels")
    return Microscope(
        high_tension_kv=known.high_tension_kv,
        aberration_convention=known.aberration_convention,
        coherence=known.coherence,
        compatibility=known.compatibility,
        mtf=mtf,
    )


def load_field(data: DataSettings, warn: Warn) -> Experiment:
    """The whole image, or its crop `data.frame`, with the noise of its pixels."""
    if data.image is None:
        raise InputError("data.image: none given, expected an image file")
    sampling = data.sampling
    whole = read_image(Path(data.image), data.shape)
    image = whole if data.frame is None else crop(whole, data.frame, "data.frame")
    check_contrast(image, "data.image" if data.frame is None else "data.frame")
    noise = _noise(data, whole)
    if noise is not None and noise.remark is not None:
        warn(noise.remark)
    if noise is None:
        warn("no data.vacuum or data.noise_variance given: the noise is taken from the residual")
    return Experiment(image, Frame(image.shape, sampling), noise)  # type: ignore[arg-type]


def averages(data: DataSettings, image: np.ndarray, noise: NoiseModel | None) -> list[Origins]:
    """Origins of the ROIs of each mean that `data.average` asks for; none: the image itself."""
    if data.average is None:
        return []
    roi_shape(data)  # refuses a missing or an empty one
    if isinstance(data.average, str):
        return [choose_average(find_regions(data, image, noise))]
    if not data.average:
        raise InputError("data.average: found an empty list, expected [[row0,col0],...]")
    nested = isinstance(data.average[0][0], tuple) if data.average[0] else True
    groups = data.average if nested else (data.average,)
    if not all(groups):
        raise InputError("data.average: found an empty list, expected [[row0,col0],...]")
    # nor in two means: they are fitted together as independent measurements
    refuse_repeated([origin for group in groups for origin in group], "data.average")  # type: ignore[arg-type]
    return list(groups)  # type: ignore[arg-type]


def warn_of_overlap(groups: list[Origins], shape: tuple[int, int], warn: Warn) -> None:
    """Says that regions of means share pixels, whose noise then averages less than is assumed."""
    pairs = overlapping([origin for group in groups for origin in group], shape)
    if pairs:
        one, other = (list(origin) for origin in pairs[0])
        warn(
            f"data.average: {len(pairs)} pairs of regions overlap, as {other} and {one}: their "
            "noise is not independent, so errors are stated too small"
        )


def mean_region(data: DataSettings, image: np.ndarray, origins: Origins) -> np.ndarray:
    """Mean of the ROIs at `origins`."""
    assert data.roi_shape is not None
    rois = [crop(image, (*origin, *data.roi_shape), "data.average") for origin in origins]
    mean = np.mean(rois, axis=0)
    check_contrast(mean, "data.average")
    return mean


def load_experiment(data: DataSettings, warn: Warn) -> Experiment:
    """The image to fit: the whole image, a crop of it, or the mean of some of its ROIs; with
    several means, the first, and the others beside it."""
    field = load_field(data, warn)
    image, noise = field.image, field.noise
    groups = averages(data, image, noise)
    others = tuple(mean_region(data, image, group) for group in groups[1:])
    if groups:
        warn_of_overlap(groups, roi_shape(data), warn)
    if noise is not None and len({len(group) for group in groups}) > 1:
        warn("data.average: the means are of different numbers of ROIs, the noise is the first's")
    if groups:
        image = mean_region(data, image, groups[0])
        if noise is not None and noise.source == "vacuum":
            # a measured noise is that of a single ROI
            noise = noise.of_average(len(groups[0]))
    elif data.roi_shape is not None and image.shape != data.roi_shape:
        raise InputError(
            f"data.roi_shape: found {list(data.roi_shape)} for an image of {list(image.shape)}: "
            "say with data.average=[[row0,col0],...] which ROIs to fit, or crop with data.frame"
        )
    frame = Frame(image.shape, field.frame.sampling_nm)  # type: ignore[arg-type]
    return Experiment(image, frame, noise, others)


def _noise(data: DataSettings, whole: np.ndarray) -> NoiseModel | None:
    """Noise of a pixel, as given or as measured."""
    if data.noise_variance is not None:
        return NoiseModel(data.noise_variance, tuple(data.noise_correlation or ()))
    if data.noise_correlation is not None:
        raise InputError("data.noise_correlation: needs data.noise_variance beside it")
    if data.vacuum is None:
        return None
    return measure_noise(crop(whole, data.vacuum, "data.vacuum"))


def choose_grid(
    settings: RunSettings,
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    vectors: np.ndarray,
    slices: int,
    *,
    reduce_image: bool = True,
) -> GridChoice:
    """The grids of a run: as given, or `auto` for what `vectors` span.

    `reduce_image`: with a given grid, still form images on a coarser grid of the same error.
    """
    wanted = settings.specimen.grid
    if isinstance(wanted, tuple) and not reduce_image:
        return GridChoice(wanted, wanted, microscope.source, None)
    return choose_grids(
        crystal,
        microscope,
        frame,
        vectors=vectors,
        slices=slices,
        scattering=settings.specimen.scattering,
        error=settings.specimen.grid_error,
        grid=wanted if isinstance(wanted, tuple) else None,
    )


def spanning_vectors(space: ParameterSpace, seed: int, count: int = 6) -> np.ndarray:
    """Parameter vectors spread over what will be simulated, for the choice of grids."""
    rng = np.random.default_rng(seed)
    vectors = np.tile(space.base, (count, 1))
    fitted = space.fitted.space
    unit = rng.uniform(size=(count, len(fitted)))
    for k, variable in enumerate(fitted.variables):
        vectors[:, INDEX[variable.name]] = variable.low + unit[:, k] * (
            variable.high - variable.low
        )
    low, high = space.thickness_range
    vectors[:, INDEX["thickness"]] = np.rint(np.linspace(low, high, count))
    return vectors


def build_simulator(
    settings: RunSettings,
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    choice: GridChoice,
    slices: int,
) -> Simulator:
    """The simulator of a run."""
    return make_simulator(
        crystal,
        microscope,
        frame,
        grid_shape=choice.grid,
        image_shape=choice.image,
        slices=slices,
        scattering=settings.specimen.scattering,
        precision=settings.precision,
        source=choice.source,
        # a CPU works best on one image at a time (its cache), a GPU on many
        batch=1 if jax.default_backend() == "cpu" else 32,
    )


def describe_grid(choice: GridChoice) -> dict[str, Any]:
    """The `grid` of a result."""
    return {
        "wave": list(choice.grid),
        "image": list(choice.image),
        "foci": choice.source.foci,
        "image_error_rms": choice.error,
    }


def input_paths(settings: RunSettings) -> dict[str, Path]:
    """Every file or folder that the settings name as input, by option."""
    paths = {
        "data.image": settings.data.image,
        "data.mtf": settings.data.mtf,
        "specimen.structure": settings.specimen.structure,
        "simulate.table": settings.simulate.table,
        "imaging.result": settings.imaging.result,
        "stitch.result": settings.stitch.result,
    }
    return {option: Path(p) for option, p in paths.items() if p is not None}


def input_files(settings: RunSettings) -> dict[str, dict[str, str]]:
    """Name and SHA-256 of every input file, by option."""
    files = input_paths(settings)
    files = {o: p / RESULT if p.is_dir() and o in HANDED_OVER else p for o, p in files.items()}
    return {option: {"name": p.name, "sha256": _sha256(p, option)} for option, p in files.items()}


def _sha256(path: Path, option: str) -> str:
    size = file_size(path, option)  # refuses what would block
    if size > LARGEST_INPUT:
        raise InputError(f"{option}: {path} has {size} bytes, expected at most {LARGEST_INPUT}")
    return sha256(path)


def fingerprint(settings: RunSettings) -> str:
    """Stands for everything that the result depends on: settings and contents of files; of a
    result that is handed over, what is used of it, not when or how fast it was found."""
    plain = dataclasses.asdict(settings)
    for group, keys in (
        (plain, ("resume", "overwrite", "device", "memory_gb")),
        (plain["data"], ("image", "mtf")),
        (plain["specimen"], ("structure",)),
        (plain["simulate"], ("table", "out")),
        (plain["optimizer"], ("max_seconds",)),
        (plain["imaging"], ("result",)),
        (plain["stitch"], ("result",)),
    ):
        for key in keys:
            del group[key]
    contents = {option: file["sha256"] for option, file in input_files(settings).items()}
    handed = {"imaging.result": settings.imaging.result, "stitch.result": settings.stitch.result}
    contents |= {o: content_digest(Path(p), o) for o, p in handed.items() if p is not None}
    text = json.dumps([plain, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_input(settings: RunSettings) -> dict[str, Any]:
    """The `input` of a result: files by name, and the settings that shaped the data."""
    data = dataclasses.asdict(settings.data)
    return {
        "files": input_files(settings),
        "data": {k: v for k, v in data.items() if k not in ("image", "mtf") and v is not None},
        "specimen": {
            k: v for k, v in dataclasses.asdict(settings.specimen).items() if k != "structure"
        },
        "microscope": dataclasses.asdict(settings.microscope),
        "optimizer": dataclasses.asdict(settings.optimizer),
    }
