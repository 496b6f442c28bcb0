"""All stages in turn, from one image to a refined model; results are handed over."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qhrtem_jax.engines import IN_PROCESS, Engine, opened
from qhrtem_jax.field import FieldResult
from qhrtem_jax.inputs.advice import by_consequence
from qhrtem_jax.inputs.identity import check_inputs, fingerprint
from qhrtem_jax.inputs.image import averaged_data
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.prepared import wants_preparation, with_prepared
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.journal import Journal, Progress
from qhrtem_jax.io.netcdf import netcdf
from qhrtem_jax.io.run_folder import RESULT, RunFolder, read_json
from qhrtem_jax.reporting.labelled import labelled
from qhrtem_jax.reporting.live import live_page
from qhrtem_jax.reporting.page import Page, Table, write_page
from qhrtem_jax.reporting.result import FitResult, Result, as_json, header
from qhrtem_jax.reporting.verdict import said, with_verdict
from qhrtem_jax.stages import CHAIN, PIPELINE, STAGES, RunSettings
from qhrtem_jax.structure.candidates import (
    FittedCandidate,
    compared,
    comparison,
    remarks,
    told_apart,
)
from qhrtem_jax.structure.candidates_page import page_of
from qhrtem_jax.structure.problem import check_one_cell
from qhrtem_jax.structure.settings import check_candidates

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineResult(FieldResult):
    """What `stitch` found, and the folders of the `stages`."""

    stages: dict[str, str]


IMAGING_FIRST = "no result of an imaging run was given: the imaging stage ran first, see its folder"
PREPARED_FIRST = "the image was prepared first (stage prepare), see its folder"


@runtime_checkable
class Terminal(Protocol):
    """Where progress is shown."""

    def begin(self) -> None: ...

    def say(self, text: str) -> None: ...

    def __call__(self, now: Progress) -> None: ...


def run(
    settings: RunSettings,
    folder: RunFolder,
    terminal: Terminal,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Run what `settings.stage` names, one stage or all; `started` is called once all input is
    checked and before anything is computed.

    A stage that needs imaging parameters and is given none is preceded by the imaging stage, in a
    run folder of its own. A stage that is done is not repeated when the run is resumed, and one
    that was interrupted goes on, so a kill at any point costs little and changes nothing.

    **Raises:** `InputError` for input that cannot be used.
    """
    reader = Reader()
    check_inputs(settings)
    check_candidates(settings)
    if settings.stage in (*CHAIN, PIPELINE) and wants_preparation(settings, reader):
        problem = STAGES["prepare"].prepare(dataclasses.replace(settings, stage="prepare"), reader)
        with opened(settings.engine, settings.cores, settings.device) as engine:
            means = _Means(reader, terminal, engine)
            _prepared_first(settings, problem, folder, means, started)
        return
    if settings.specimen.candidates is not None:
        with opened(settings.engine, settings.cores, settings.device) as engine:
            _compare(settings, folder, _Means(reader, terminal, engine), started)
        return
    stage = STAGES[_last(settings)]
    stage.before(settings, folder)
    todo = _checked(stage.adapted(_on_cells(settings, reader)), reader)
    with opened(settings.engine, settings.cores, settings.device) as engine:
        if folder.prepare(fingerprint(todo.settings, reader), settings.resume, settings.overwrite):
            started()
            terminal.begin()
            _do(todo, folder, _Means(reader, terminal, engine), _Told(settings))
    stage.after(settings, folder)


@dataclasses.dataclass(frozen=True)
class _Means:
    """What a run works with: who reads, where progress is shown, who computes."""

    reader: Reader
    terminal: Terminal
    engine: Engine = IN_PROCESS


@dataclasses.dataclass(frozen=True)
class _Todo:
    """What is to be computed with `settings`: the `problem` of the stage, or the last of all; that
    of `imaging`, where its parameters have to be found first."""

    settings: RunSettings
    imaging: Any
    problem: Any


def _last(settings: RunSettings) -> str:
    """The stage that is asked for, or the last of all."""
    return CHAIN[-1] if settings.stage == PIPELINE else settings.stage


def _checked(settings: RunSettings, reader: Reader) -> _Todo:
    """Problems whose input is read and checked."""
    stage, imaging = STAGES[_last(settings)], None
    if stage.wants_imaging and settings.imaging.result is None:
        imaging = STAGES["imaging"].prepare(settings_of(settings, "imaging", reader), reader)
    problem = stage.prepare(dataclasses.replace(settings, stage=_last(settings)), reader)
    return _Todo(settings, imaging, problem)


def _do(todo: _Todo, folder: RunFolder, means: _Means, told: "_Told") -> None:
    """Compute all, or one stage, after imaging where it needs that."""
    if todo.settings.stage == PIPELINE:
        _chain(todo.settings, todo.imaging, folder, means, told)
    elif todo.imaging is None:
        _compute(todo.problem, folder, means, lambda result: told.of(result, means.reader))
    else:
        told = dataclasses.replace(told, warnings=(*told.warnings, IMAGING_FIRST))
        _after_imaging(todo.settings, todo.imaging, folder, means, told)


def _prepared_first(
    settings: RunSettings,
    problem: Any,
    folder: RunFolder,
    means: _Means,
    started: Callable[[], None],
) -> None:
    """What was asked for, on the cells that stage `prepare` (whose `problem` this is) finds in the
    image first."""
    reader = means.reader
    log.info("pipeline: prepare")
    if not folder.prepare(fingerprint(settings, reader), settings.resume, settings.overwrite):
        return
    started()
    means.terminal.begin()
    _in_part(problem, folder, means)
    data = dataclasses.replace(settings.data, prepared=str(folder.path / "prepare"))
    todo = _checked(_on_cells(dataclasses.replace(settings, data=data), reader), reader)
    _do(todo, folder, means, _Told(settings, (PREPARED_FIRST,), ("prepare",)))


def _on_cells(settings: RunSettings, reader: Reader) -> RunSettings:
    """Settings with what `data.prepared` holds: its regions, or their mean, as the stage wants."""
    found = with_prepared(settings, reader)
    stage = STAGES.get(settings.stage)
    if found is settings or stage is None or stage.of != "mean" or found.data.average is not None:
        return found
    data = averaged_data(found.data, reader)
    reader.warnings()  # said by whoever uses the data
    return dataclasses.replace(found, data=data)


def _after_imaging(
    settings: RunSettings,
    imaging: Any,
    folder: RunFolder,
    means: _Means,
    told: "_Told",
) -> None:
    """One stage in `folder`, after the problem `imaging`, whose parameters it needs."""
    reader = means.reader
    _in_part(imaging, folder, means)
    handed = _with(settings, "imaging", folder.path / "imaging")
    problem = STAGES[settings.stage].prepare(settings_of(handed, settings.stage, reader), reader)
    _compute(problem, folder, means, lambda result: told.of(result, reader))


@dataclasses.dataclass(frozen=True)
class _Told:
    """What a result says of how it was asked for: the `settings` that the user gave, where others
    were made of them; `warnings` of what went before; stages that ran `first`."""

    settings: RunSettings
    warnings: tuple[str, ...] = ()
    first: tuple[str, ...] = ()

    def of(self, result: Result, reader: Reader) -> Result:
        """The result, as the user asked for it."""
        return dataclasses.replace(
            result,
            settings=self.settings,
            input=header(self.settings, reader)["input"],
            warnings=(*self.warnings, *result.warnings),
        )


def _chain(
    settings: RunSettings,
    imaging: Any,
    folder: RunFolder,
    means: _Means,
    told: _Told,
) -> None:
    """All stages, each in a folder of its own; `imaging`: its problem, None where its parameters
    are handed over.

    As in the paper, the imaging parameters of the imaging stage are handed to all others (the mean
    structure of the averaged regions belongs to none of them), by option those that the structure
    stage refined again to the stages after it; and the counts to the stitching.
    """
    reader = means.reader
    names = [n for n in CHAIN if n != "imaging" or imaging is not None]
    handed = settings
    steps = [*told.first, *names]
    for name in names:
        step = f" ({steps.index(name) + 1} of {len(steps)})"
        log.info("pipeline: %s%s", name, step)
        chosen = settings_of(handed, name, reader)
        problem = imaging if name == "imaging" else STAGES[name].prepare(chosen, reader)
        _in_part(problem, folder, means, step)
        if name in ("imaging", settings.pipeline.handover):
            handed = _with(handed, "imaging", folder.path / name)
        if name == "reconstruct":
            handed = _with(handed, "stitch", folder.path / name)
    _write_chain(told.settings, folder, reader, [*told.first, *names])


def _in_part(problem: Any, whole: RunFolder, means: _Means, step: str = "") -> None:
    """One stage in a part of the run's folder, which is called like it."""
    settings = problem.settings
    folder = whole.sub(settings.stage)
    if folder.prepare(fingerprint(settings, means.reader), settings.resume, settings.overwrite):
        _compute(problem, folder, means, pages=(folder, whole), step=step)


def _compute(
    problem: Any,
    folder: RunFolder,
    means: _Means,
    finish: Callable[[Result], Result] = lambda result: result,
    pages: tuple[RunFolder, ...] = (),
    step: str = "",
) -> None:
    """Run a stage and write its folder; the result is written last, so that a folder that holds one
    is complete. While it runs, `pages` of the folders show how far it is; `step`: which of how many
    stages."""
    name, terminal = problem.settings.stage, means.terminal
    stage = STAGES[name]
    told = live_page(pages or (folder,), f"Stage {name}{step}", terminal)
    try:
        found = with_verdict(stage.run(problem, Journal(folder, told, means.engine)))
        _write(folder, found, stage.page(found), finish(found), terminal)
    finally:
        folder.remove_scratch()


def _write(
    folder: RunFolder, found: Result, page: Page, result: Result, terminal: Terminal
) -> None:
    """All files of a result, and what is said of it."""
    folder.write_arrays(found.arrays)
    if found.structures:
        folder.write_structures(found.structures)
    for name, (head, rows) in found.tables.items():
        folder.write_table(name, head, rows)
    if (arrays := labelled(found)) is not None:
        with folder.open("fit.nc", durable=False) as file:
            file.write(netcdf(arrays))
    content = result.to_json()
    write_page(folder, page, content)
    folder.write_result(content)
    folder.remove_checkpoint()
    for warning in result.warnings:
        terminal.say(f"note: {warning}")
    for line in page.said:
        terminal.say(line)
    if isinstance(result, FitResult) and result.verdict is not None:
        terminal.say(said(result.verdict))


def settings_of(settings: RunSettings, name: str, reader: Reader) -> RunSettings:
    """Settings of one stage of a run.

    Where the run is given a whole field, stages that look at a mean get that of some regions, and
    all are told which: the image shift that is found belongs to these. Where the run itself is
    given a mean, its data, and the noise of it, stay as they are.
    """
    data = settings.data
    if settings.stage == PIPELINE or STAGES[settings.stage].of == "field":
        data = averaged_data(data, reader)
        reader.warnings()  # said by whoever uses the data
        if STAGES[name].of != "mean":
            data = dataclasses.replace(settings.data, average=data.average)
    return dataclasses.replace(settings, stage=name, data=data)


def _with(settings: RunSettings, group: str, result: Path) -> RunSettings:
    """Settings to which the option `group`.result hands over a folder."""
    known = dataclasses.replace(getattr(settings, group), result=str(result))
    return dataclasses.replace(settings, **{group: known})


def _compare(
    settings: RunSettings, folder: RunFolder, means: _Means, started: Callable[[], None]
) -> None:
    """Imaging and structure of each candidate, in a folder of its own, and how probable each is."""
    reader, names = means.reader, settings.specimen.candidates or ()
    todo = []
    for name in names:
        specimen = dataclasses.replace(settings.specimen, structure=name, candidates=None)
        one = dataclasses.replace(settings, specimen=specimen)
        with named(name):
            check_one_cell(one, reader)
            todo.append(_checked(_on_cells(one, reader), reader))
    if not folder.prepare(fingerprint(settings, reader), settings.resume, settings.overwrite):
        return
    started()
    means.terminal.begin()
    fitted = []
    for number, (name, one) in enumerate(zip(told_apart(names), todo, strict=True), 1):
        log.info("candidates: %s (%d of %d)", name, number, len(names))
        part = f"candidate{number}"
        here = folder.sub(part)
        if here.prepare(fingerprint(one.settings, reader), settings.resume, settings.overwrite):
            _do(one, here, means, _Told(one.settings))
        imaging = read_json(here.path / "imaging" / RESULT)
        found = here.read_result(), here.read_arrays()
        fitted.append(FittedCandidate(name, part, *found, imaging))
    candidates = compared(fitted)
    content, arrays = comparison(as_json(header(settings, reader)), candidates, fitted)
    page = page_of(candidates, fitted, todo[0].settings.data.sampling)
    folder.write_arrays(arrays)
    write_page(folder, page, content)
    folder.write_result(content)
    for line in (*remarks(candidates), *page.said):
        means.terminal.say(line)


def _write_chain(
    settings: RunSettings, folder: RunFolder, reader: Reader, names: list[str]
) -> None:
    """The pipeline's own result: where the stages are, and what the last one found."""
    results = {name: read_json(folder.path / name / RESULT) for name in names}
    last = results["stitch"]
    cost = {
        key: round(sum(r["cost"][key] for r in results.values()), 3)
        for key in ("evaluations", "gradient_evaluations", "wall_s", "compile_s")
    }
    content: dict[str, Any] = as_json(header(settings, reader)) | {
        "warnings": by_consequence(
            [f"{n}: {w}" for n, r in results.items() for w in r["warnings"]]
        ),
        **{
            key: last[key]
            for key in ("grid", "noise", "fit", "parameters", "correlations", "rois", "field")
        },
        "stages": {name: name for name in names},
        "cost": cost,
    }
    if "verdict" in last:
        content["verdict"] = last["verdict"]
    rows = [
        [
            name,
            *(
                [f"{r['fit']['mse']:.6f}", f"{100 * r['fit']['ncc']:.2f}"]
                if "fit" in r
                else ["", ""]
            ),
            f"{r['cost']['wall_s']:.0f}",
        ]
        for name, r in results.items()
    ]
    page = Page(
        "From one image to a model",
        "All stages are done.",
        tables=(Table("Stages", ["stage", "MSE", "NCC (%)", "time (s)"], rows),),
        links=tuple((name, f"{name}/report.html") for name in names),
    )
    write_page(folder, page, content)
    folder.write_result(content)
