"""Stage `series`: the first frame as a field, then one frame after the other."""

import dataclasses

import numpy as np

from qhrtem_jax.field.blocks import blocks_of
from qhrtem_jax.field.checkpoint import Standing
from qhrtem_jax.field.counting import FieldCounts, certify
from qhrtem_jax.field.entries import SharedErrors, refined_entries
from qhrtem_jax.field.joint import refine
from qhrtem_jax.field.model import FieldModel, JointState, field_model, with_image
from qhrtem_jax.field.result import FieldEntry
from qhrtem_jax.field.simulate import cut, first_state, global_imaging, image, plane_vector
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.structured import moved_plane
from qhrtem_jax.regions.fit import fit_regions, full_remarks, misfit_remarks
from qhrtem_jax.regions.model import RegionState, regions_model
from qhrtem_jax.regions.result import summary_fit
from qhrtem_jax.reporting.column_tables import point_names
from qhrtem_jax.reporting.result import (
    Fit,
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)
from qhrtem_jax.series.checkpoint import Followed, followed_before, save, weighed
from qhrtem_jax.series.frames import (
    C1,
    SHIFT,
    TILT,
    count_frame,
    follow_frame,
    walking,
    with_numbers,
)
from qhrtem_jax.series.microscope import microscope_errors, microscope_of, with_microscope
from qhrtem_jax.series.numbers import Change, Numbers, numbers_over_time
from qhrtem_jax.series.problem import SeriesProblem
from qhrtem_jax.series.result import Event, Frame, FrameRegion, Pace, SeriesResult


def run(problem: SeriesProblem, journal: Journal) -> SeriesResult:
    """Fit all frames, then their numbers together."""
    regions = problem.first.regions
    assert regions.imaging is not None
    fit = regions_model(regions, regions.imaging, journal.engine)
    fit, counted = fit_regions(fit, journal)
    model = field_model(fit)
    begun = Standing(model, first_state(model, counted))
    chosen, nm = problem.settings, np.array(regions.field.frame.sampling_nm)[::-1]
    kept = followed_before(begun, journal)
    if kept is None:
        standing = refine(begun, counted, journal)
        blocks = blocks_of(model.cells, chosen.stitch.block)
        model, state, _ = certify(standing, journal, chosen.stitch.sweeps, blocks)
        first = Standing(model, dataclasses.replace(state, system=None))
        kept = Followed(first, journal.seconds)
        save(kept, journal)
    model, first_s = kept.first.model, kept.seconds
    whole = [with_image(model, frame) for frame in problem.frames]  # all of the microscope free
    followed, before = [], [kept.first.state]
    for k, frame in enumerate(whole):
        if k < len(kept.states):
            state = weighed(frame, kept.states[k], before[-1])
        else:
            step = problem.shifts[k] - problem.shifts[max(k - 1, 0)]
            phase = f"frame {k + 1} of {len(whole)}"
            state = follow_frame(frame, before[-1], step * nm, journal, phase)
            state = dataclasses.replace(state, system=None)
            kept = kept.and_then(state)
            save(kept, journal)
        followed.append(state)
        before.append(state)
    del before[-1]
    walks = [walking(m, b) for m, b in zip(whole, before, strict=True)]
    microscope = microscope_of(walks, followed, journal)
    fits = [
        count_frame(m, with_microscope(m, s, microscope), b, journal, f"numbers of frame {k + 1}")
        for k, (m, s, b) in enumerate(zip(whole, followed, before, strict=True))
    ]
    found = numbers_over_time(model, fits, chosen.series.rate)
    states = [
        with_numbers(fit, numbers, journal, f"changes of frame {k + 1}")
        for k, (fit, numbers) in enumerate(zip(fits, found.whole, strict=True))
    ]
    pace = len(fits) / max(journal.seconds - first_s, 1e-9)
    models = [fit.model for fit in fits]
    images = np.array([image(m, s, journal) for m, s in zip(models, states, strict=True)])
    known = [
        _entries(m, s, found, k, counted, images[k], chosen.stitch.charges)
        for k, (m, s) in enumerate(zip(models, states, strict=True))
    ]
    last, shared = models[0], known[0][1]
    surplus_nm = plane_vector(last, states[0])[C1] - global_imaging(last, states[0])[C1]
    # one plane for all frames, whichever atoms come or go
    vectors = [
        moved_plane(global_imaging(m, s), -surplus_nm) for m, s in zip(models, states, strict=True)
    ]
    errors = [_shift_errors(entries, nm) for entries, _ in known]
    frames = [
        Frame(
            _pair(-(vectors[k][SHIFT] - vectors[0][SHIFT]) / nm),
            _together(errors[k], errors[0]) if k else (None, None),
            float(vectors[k][C1]),
            _pair(vectors[k][TILT]),
            summary_fit(cut(m, images[k]), m.targets, [e.fit.chi2_reduced for e in entries]),
            tuple(_region(entry) for entry in entries),
        )
        for k, (m, (entries, _)) in enumerate(zip(models, known, strict=True))
    ]
    std_noise, std = (
        errors | known
        for errors, known in zip(
            microscope_errors(
                model.joint.coordinates,
                point_names(model.columns, model.layout),
                microscope,
                shared.scale,
            ),
            (shared.std_noise, shared.std),
            strict=True,
        )
    )
    noise = states[0].weights.noise
    remarks = full_remarks(last.regions, states[0].points, states[0].stack.begins)
    return SeriesResult(
        **header(chosen, regions.reader),
        warnings=(*regions.warnings, *remarks, *misfit_remarks(noise), *noise_remarks(noise)),
        grid=grid_sizes(fit.choice),
        noise=noise_of(noise),
        fit=_over_all(models, images),
        parameters=parameter_table(vectors[0], set(std), std_noise, std),
        correlations=shared.correlations,
        frames=tuple(frames),
        events=tuple(_event(last, change) for change in found.changes),
        pace=Pace(round(first_s, 3), round(pace, 5)),
        cell=last.columns,
        cost=journal.cost(),
        arrays={
            "experiment": problem.frames.astype(np.float32),
            "simulation": images.astype(np.float32),
            "difference": (images - problem.frames).astype(np.float32),
        },
        history=tuple(journal.rows),
    )


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _entries(
    model: FieldModel,
    state: JointState,
    found: Numbers,
    k: int,
    counted: RegionState,
    shown: np.ndarray,
    charges: dict[str, float] | None,
) -> tuple[tuple[FieldEntry, ...], SharedErrors]:
    """Regions of frame `k`, and the errors of what they share."""
    counts = FieldCounts(found.beliefs[k], np.ones(len(state.points), dtype=bool))
    counted = dataclasses.replace(counted, points=state.points, noise=state.weights.noise)
    return refined_entries(model, state, counted, counts, shown, charges)


Errors = tuple[float | None, float | None]


def _shift_errors(entries: tuple[FieldEntry, ...], nm: np.ndarray) -> Errors:
    """Of the mean of all regions' shifts, in pixels, as if these were independent."""
    found: list[float | None] = []
    for name, pixel in zip(("A0_x", "A0_y"), nm, strict=True):
        known = [entry.parameters[name].std for entry in entries]
        some = [s for s in known if s is not None]
        mean = float(np.sqrt(np.mean(np.square(some)) / len(some)) / pixel) if some else None
        found.append(mean)
    return found[0], found[1]


def _together(one: Errors, other: Errors) -> Errors:
    """Of a difference."""
    both = [
        None if a is None or b is None else float(np.hypot(a, b))
        for a, b in zip(one, other, strict=True)
    ]
    return both[0], both[1]


def _region(entry: FieldEntry) -> FrameRegion:
    moved = entry.displacement
    titanium = moved is not None and (moved.species, moved.against) == ("Ti", "O")
    return FrameRegion(
        name=entry.name,
        origin_px=entry.origin_px,
        thickness_nm=entry.thickness_nm,
        fit=entry.fit,
        counts=entry.counts,
        columns=entry.columns,
        displacement=moved,
        ti_o_dy_pm=moved.mean.dy_pm if moved is not None and titanium else None,
    )


def _event(model: FieldModel, change: Change) -> Event:
    region, chain = divmod(change.number, len(model.columns.chains))
    known = model.columns.chains[chain]
    x, y = (float(n) for n in model.columns.xy[known.column])
    name = model.problem.regions[region].name
    return Event(name, known.symbol, x, y, change.frame, change.atoms, change.probability)


def _over_all(models: list[FieldModel], images: np.ndarray) -> Fit:
    """Figures of merit over the regions of all frames."""
    shown = [cut(model, found) for model, found in zip(models, images, strict=True)]
    seen = [model.targets for model in models]
    cols = shown[0].shape[-1]
    one, other = (np.concatenate(parts).reshape(-1, cols) for parts in (shown, seen))
    return figures_of_merit(one, other, None)
