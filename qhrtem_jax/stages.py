"""The stages: what each is called, what it is told, and the functions that make it.

A stage is a folder, a row here, and a group in `configs/`.
"""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from qhrtem_jax import (
    exploration,
    field,
    imaging,
    knife_edge,
    preparation,
    regions,
    series,
    simulation,
    structure,
)
from qhrtem_jax.errors import InputError
from qhrtem_jax.exploration.settings import ExplorationSettings
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import read_settings
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.knife_edge.settings import KnifeEdgeSettings
from qhrtem_jax.reporting.page import Page
from qhrtem_jax.reporting.result import Result
from qhrtem_jax.series.settings import SeriesSettings, of_first_frame
from qhrtem_jax.simulation.settings import SimulationSettings
from qhrtem_jax.structure.settings import StructureSettings

PIPELINE = "pipeline"

CHAIN = ("imaging", "structure", "reconstruct", "stitch")
"""The stages of the pipeline, in turn."""

COMMON = ("data", "specimen", "microscope", "parameters", "engine")
SEARCH = ("objective", "optimizer")
"""Groups of settings that several stages take."""


@dataclasses.dataclass(frozen=True)
class PipelineOptions:
    """Which stage's imaging parameters go on to the regions and the field: those of the mean's
    imaging, or of its structure, which refined them again."""

    handover: str = "imaging"

    CHOICES: typing.ClassVar = {"handover": ("imaging", "structure")}


@dataclasses.dataclass(frozen=True)
class RunSettings(
    SeriesSettings, StructureSettings, SimulationSettings, KnifeEdgeSettings, ExplorationSettings
):
    """The options of all stages."""

    pipeline: PipelineOptions = dataclasses.field(default_factory=PipelineOptions)


@dataclasses.dataclass(frozen=True)
class Stage:
    """How a stage is run.

    `prepare(settings, reader)` reads and checks all input, `run(problem, journal)` computes and
    writes nothing but its journal, `page(result)` says what is shown. `of`: what it looks at: the
    mean of some regions, the whole field, or nothing. `wants_imaging`: it needs imaging parameters.
    `options`: the groups of settings that it takes; `adapted`, what all that is done first is told.
    `before` and `after` the run, for what a user wants written elsewhere.
    """

    prepare: Callable[[Any, Reader], Any]
    run: Callable[[Any, Journal], Result]
    page: Callable[[Any], Page]
    result: type[Result]
    of: str = "nothing"
    wants_imaging: bool = False
    options: tuple[str, ...] = COMMON
    adapted: Callable[[Any], Any] = lambda settings: settings
    before: Callable[[Any, RunFolder], None] = lambda settings, folder: None
    after: Callable[[Any, RunFolder], None] = lambda settings, folder: None


STAGES: dict[str, Stage] = {
    "simulate": Stage(
        simulation.prepare,
        simulation.run,
        simulation.page,
        simulation.SimulationResult,
        options=(*COMMON, "simulate"),
        before=simulation.check_out,
        after=simulation.write_out,
    ),
    "prepare": Stage(
        preparation.prepare, preparation.run, preparation.page, preparation.PreparationResult
    ),
    "imaging": Stage(
        imaging.prepare,
        imaging.run,
        imaging.page,
        imaging.ImagingResult,
        of="mean",
        options=(*COMMON, *SEARCH),
    ),
    "structure": Stage(
        structure.prepare,
        structure.run,
        structure.page,
        structure.StructureResult,
        of="mean",
        wants_imaging=True,
        options=(*COMMON, *SEARCH, "imaging", "structure"),
    ),
    "reconstruct": Stage(
        regions.prepare,
        regions.run,
        regions.page,
        regions.RegionsResult,
        of="field",
        wants_imaging=True,
        options=(*COMMON, *SEARCH, "imaging", "reconstruct"),
    ),
    "stitch": Stage(
        field.prepare,
        field.run,
        field.page,
        field.FieldResult,
        of="field",
        wants_imaging=True,
        options=(*COMMON, *SEARCH, "imaging", "reconstruct", "stitch"),
    ),
    "series": Stage(
        series.prepare,
        series.run,
        series.page,
        series.SeriesResult,
        of="field",
        wants_imaging=True,
        options=(*COMMON, *SEARCH, "imaging", "reconstruct", "stitch", "series"),
        adapted=of_first_frame,
    ),
    "mtf": Stage(
        knife_edge.prepare,
        knife_edge.run,
        knife_edge.page,
        knife_edge.KnifeEdgeResult,
        options=("data", "mtf"),
    ),
    "explore": Stage(
        exploration.prepare,
        exploration.run,
        exploration.page,
        exploration.ExplorationResult,
        options=(*COMMON, "explore"),
    ),
}


def options_of(name: str) -> tuple[str, ...]:
    """Groups of settings that a stage, or the pipeline, takes."""
    if name != PIPELINE:
        return STAGES[name].options
    chain = [group for stage in CHAIN for group in STAGES[stage].options]
    return (*dict.fromkeys(chain), PIPELINE)


def run_settings(content: object) -> RunSettings:
    """Settings of a run from a nested mapping, as a file may hold it.

    **Raises:** `InputError` that names the field, what was found and what was expected.
    """
    settings = read_settings(RunSettings, content)
    names = (*STAGES, PIPELINE)
    if settings.stage not in names:
        raise InputError(f"stage: found {settings.stage!r}, expected one of {', '.join(names)}")
    return settings
