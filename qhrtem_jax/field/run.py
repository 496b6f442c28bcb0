"""Stage `stitch`: one model of the field from its regions, and its joint refinement."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from qhrtem_jax.field.blocks import blocks_of
from qhrtem_jax.field.checkpoint import Standing
from qhrtem_jax.field.counting import certify
from qhrtem_jax.field.entries import as_field_entry, refined_entries
from qhrtem_jax.field.joint import refine
from qhrtem_jax.field.model import FieldModel, field_model
from qhrtem_jax.field.problem import FieldProblem
from qhrtem_jax.field.properties import model_of_field
from qhrtem_jax.field.remains import remains_of
from qhrtem_jax.field.result import FieldEntry, FieldResult, Integrated
from qhrtem_jax.field.simulate import (
    above_plane_nm,
    cut,
    first_state,
    image,
    plane_vector,
)
from qhrtem_jax.field.stitched import stitch, stitched_image
from qhrtem_jax.field.trends import trends
from qhrtem_jax.inputs.conversion import typed
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.fit import fit_regions, full_remarks, misfit_remarks
from qhrtem_jax.regions.model import RegionsModel, RegionState, regions_model
from qhrtem_jax.regions.result import all_correlations, exit_remarks, region_entries, summary_fit
from qhrtem_jax.reporting.result import (
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)
from qhrtem_jax.reporting.spectrum import bands


def run(problem: FieldProblem, journal: Journal) -> FieldResult:
    """Stitch and refine."""
    regions, chosen = problem.regions, problem.settings.stitch
    assert regions.imaging is not None
    fit = regions_model(regions, regions.imaging, journal.engine)
    fit, counted = _counted_regions(problem, fit, journal)
    model = field_model(fit)
    state = first_state(model, counted)
    experiment = fit.problem.field.image
    stitched = stitch(model, state, chosen.rounding, chosen.global_c1)
    simulation = stitched_image(model, stitched, journal)
    integrated = Integrated(
        fit=summary_fit(cut(model, simulation), fit.targets, []),
        fit_image=figures_of_merit(simulation, experiment, None),
        C1_global_nm=float(stitched.vector[INDEX["C1"]]),
        absorption_global=float(stitched.vector[INDEX["absorption"]]),
        shifts_slices=tuple(float(n) for n in stitched.shifts_slices),
    )
    journal.note("stitched", integrated.fit.mse)
    arrays = {
        "experiment": experiment,
        "simulation": simulation,
        "difference": simulation - experiment,
        "difference_mean_adjusted": _mean_adjusted(model, simulation - experiment),
    }
    vector = stitched.vector
    std_noise: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    if chosen.refine:
        refined = refine(Standing(model, state), counted, journal)
        blocks = blocks_of(model.cells, chosen.block)
        model, state, counts = certify(refined, journal, chosen.sweeps, blocks)
        fit, experiment = model.regions, model.problem.field.image
        counted = dataclasses.replace(counted, points=state.points, noise=state.weights.noise)
        found = image(model, state, journal)
        arrays |= {
            "experiment": experiment,
            "difference": simulation - experiment,
            "simulation_refined": found,
            "points": state.points,
            "difference_mean_adjusted": _mean_adjusted(model, found - experiment),
        }
        entries, shared = refined_entries(model, state, counted, counts, found, chosen.charges)
        std_noise, std, correlations = shared.std_noise, shared.std, shared.correlations
        vector = plane_vector(model, state)
        left = remains_of(model, state, cut(model, found - experiment))
        if left is not None:
            arrays["remains"] = np.array([_placed(model, part) for part in left.images])
        chi2 = [entry.fit.chi2_reduced for entry in entries]
        integrated = dataclasses.replace(
            integrated,
            fit_refined=summary_fit(cut(model, found), fit.targets, chi2),
            fit_refined_image=figures_of_merit(found, experiment, None),
            C1_global_refined_nm=float(vector[INDEX["C1"]]),
            heights_cells=tuple(int(n) for n in state.stack.heights),
            entrance_slice=_entrance(model),
            trends=trends(
                model,
                state,
                np.array([entry.thickness_nm for entry in entries], dtype=float),
                cut(model, found),
            ),
            remains=None if left is None else left.remains,
        )
    else:
        if problem.counted is None:
            entries = tuple(as_field_entry(entry) for entry in region_entries(fit, counted))
        else:
            entries = tuple(typed(FieldEntry, roi, "rois") for roi in problem.counted.rois)
        correlations = all_correlations(entries)
    ends = above_plane_nm(model, state) if chosen.refine else stitched.end_nm
    crystal = stitched.crystal
    noise, shown = counted.noise, arrays.get("simulation_refined", simulation)
    missed, begins = cut(model, shown - experiment), state.stack.begins
    return FieldResult(
        **header(problem.settings, regions.reader),
        warnings=(
            *regions.warnings,
            *_remarks(entries, fit, counted, begins),
            *noise_remarks(noise),
        ),
        grid=grid_sizes(fit.choice),
        noise=noise_of(noise, bands(noise, missed, regions.frame.sampling_nm)),
        fit=integrated.fit_refined or integrated.fit,
        parameters=parameter_table(vector, set(std), std_noise, std),
        correlations=correlations,
        rois=entries,
        field=integrated,
        cost=journal.cost(),
        cell=model.columns,
        arrays={k: v.astype(np.float32) for k, v in arrays.items()},
        structures={
            "field": model_of_field(model, state, ends, entries),
            "stitched": AtomModel(
                crystal.size_nm,
                crystal.atoms,
                f"stitched field, simulated in {crystal.slices} slices",
            ),
        },
        history=tuple(journal.rows),
    )


def _counted_regions(
    problem: FieldProblem, model: RegionsModel, journal: Journal
) -> tuple[RegionsModel, RegionState]:
    """The model, and the regions, counted now or handed over."""
    known = problem.counted
    if known is None:
        return fit_regions(model, journal)
    points, relaxed_points = known.points.copy(), known.relaxed_points.copy()
    if not model.bounds.camera:  # this run takes the MTF as it is given
        points[:, model.layout.mtf_stretch] = 0.0
        relaxed_points[:, model.layout.mtf_stretch] = 0.0
    return model, RegionState(points, relaxed_points, known.noise)


def _entrance(model: FieldModel) -> int:
    """The slice of the crystal's cell, as it was read, that crystals begin with."""
    given = model.problem.settings.specimen.entrance
    return model.sites.entrance if isinstance(given, str) else given


def _mean_adjusted(model: FieldModel, difference: np.ndarray) -> np.ndarray:
    """The difference with the mean of each region removed, 0 outside of the regions."""
    parts = cut(model, difference)
    return _placed(model, parts - parts.mean(axis=(1, 2), keepdims=True))


def _placed(model: FieldModel, parts: np.ndarray) -> np.ndarray:
    """An image of regions where they are, 0 outside of them."""
    rows, cols = parts.shape[1:]
    image = np.zeros_like(model.problem.field.image)
    for (r, c), part in zip(model.corners, parts, strict=True):
        image[r : r + rows, c : c + cols] = part
    return image


def _remarks(
    entries: Sequence[FieldEntry],
    fit: RegionsModel,
    state: RegionState,
    begins: Int[np.ndarray, "regions chains"],
) -> list[str]:
    remarks = [
        f"{entry.name}: a change of numbers may still improve it"
        for entry in entries
        if not entry.certified
    ]
    for k, entry in enumerate(entries):
        counts = np.rint(state.points[k, fit.layout.counts])
        if fit.constraints.surfaces.unlikely(counts, begins[k]):
            remarks.append(
                f"{entry.name}: a surface atom that is unlikely is kept, since the image demands it"
            )
    full = full_remarks(fit, state.points, begins)
    if fit.sites.entrance:
        remarks.append(
            f"the crystal begins with slice {fit.sites.entrance} of its cell (from 0): regions one "
            "by one were counted as if with the first"
        )
    return [*remarks, *full, *exit_remarks(entries), *misfit_remarks(state.noise)]
