"""Stage `stitch`: one model of the field from its regions, and its joint refinement."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from qhrtem_jax.field.counting import FieldCounts, certify
from qhrtem_jax.field.fit import FieldFit
from qhrtem_jax.field.problem import FieldProblem
from qhrtem_jax.field.properties import (
    displacements,
    lattice_offsets,
    polarisation,
    supercell,
    surfaces,
)
from qhrtem_jax.field.result import FieldEntry, FieldResult, Integrated
from qhrtem_jax.inputs.columns import (
    determined_std,
    error_scale,
    known_without_image,
    without_mean_shift,
)
from qhrtem_jax.inputs.conversion import typed
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.integers import isolated_surface_atom
from qhrtem_jax.refine.uncertainty import strong_correlations
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.regions.fit import RegionFit
from qhrtem_jax.regions.result import (
    all_correlations,
    region_entries,
    region_entry,
    summary_fit,
)
from qhrtem_jax.reporting.column_tables import point_names
from qhrtem_jax.reporting.result import (
    Correlation,
    correlations_of,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)

log = logging.getLogger(__name__)


def run(problem: FieldProblem, journal: Journal) -> FieldResult:
    """Stitch and refine."""
    regions, chosen = problem.regions, problem.settings.stitch
    fit = _counted_regions(problem, journal)
    field = FieldFit(fit)
    field.forget_unknown()
    c1 = np.array([fit.exit_vector(k)[INDEX["C1"]] for k in range(len(fit.points))])
    absorption = float(np.mean(field.points[:, INDEX["absorption"]]))
    experiment = regions.field.image
    simulation = field.image(absorption)
    integrated = Integrated(
        fit=summary_fit(field.cut(simulation), fit.targets, []),
        C1_global_nm=float(np.min(c1)),
        absorption_global=absorption,
        shifts_slices=_shifts(field, c1, chosen.rounding),
    )
    journal.note("stitched", integrated.fit.mse)
    arrays = {
        "experiment": experiment,
        "simulation": simulation,
        "difference": simulation - experiment,
        "difference_mean_adjusted": _mean_adjusted(field, simulation - experiment),
    }
    vector, free, std_noise, std = field.global_imaging(), set(), {}, {}
    correlations: tuple[Correlation, ...]
    if chosen.refine:
        fixed = field.refine()
        counts = certify(field, fixed, chosen.sweeps)
        fit.points = field.points
        refined = field.image()
        arrays["simulation_refined"] = refined
        arrays["points"] = field.points
        arrays["difference_mean_adjusted"] = _mean_adjusted(field, refined - experiment)
        entries, chi2, shared = _refined_entries(field, counts, refined, chosen.charges)
        correlations = _correlations(field, shared[1])
        vector = field.plane_vector()
        free, std_noise, std = shared
        integrated = dataclasses.replace(
            integrated,
            fit_refined=summary_fit(field.cut(refined), fit.targets, chi2),
            C1_global_refined_nm=float(vector[INDEX["C1"]]),
            heights_cells=tuple(int(n) for n in field.heights),
        )
    else:
        if problem.counted is None:
            entries = tuple(as_field_entry(entry) for entry in region_entries(fit))
        else:
            entries = tuple(typed(FieldEntry, roi, "rois") for roi in problem.counted.rois)
        correlations = all_correlations(entries)
    size_nm, atoms = supercell(field)
    noise = fit.noise
    return FieldResult(
        **header(problem.settings, regions.reader),
        warnings=(*regions.warnings, *_remarks(entries, fit), *noise_remarks(noise)),
        grid=grid_sizes(fit.choice),
        noise=noise_of(noise),
        fit=integrated.fit_refined or integrated.fit,
        parameters=parameter_table(vector, free, std_noise, std),
        correlations=correlations,
        rois=entries,
        field=integrated,
        cost=journal.cost(),
        cell=regions.specimen.columns,
        arrays={k: v.astype(np.float32) for k, v in arrays.items()},
        structures={"field": (size_nm, atoms, "stitched model of the field")},
        history=tuple(journal.rows),
    )


def _counted_regions(problem: FieldProblem, journal: Journal) -> RegionFit:
    """The fit of the regions, counted now or handed over."""
    regions, known = problem.regions, problem.counted
    assert regions.imaging is not None
    fit = RegionFit(regions, regions.imaging, journal)
    if known is None:
        fit.start()
        fit.relax()
        fit.count()
        return fit
    fit.points, fit.relaxed_points = known.points.copy(), known.relaxed_points.copy()
    if not fit.bounds.camera:  # this run takes the MTF as it is given
        fit.points[:, fit.layout.mtf_stretch] = 0.0
        fit.relaxed_points[:, fit.layout.mtf_stretch] = 0.0
    fit.set_weights(known.noise, known.noise.source != "misfit")
    return fit


def _shifts(field: FieldFit, c1: np.ndarray, rounding: str) -> tuple[float, ...]:
    """The paper's section 4.3: the global C1 is the smallest of the regions', which lie above that
    plane by the difference; in slices."""
    if rounding == "cell":
        exits = field.exits()
        return tuple(float(n) for n in exits.max() - exits)
    return tuple(float(n) for n in (c1 - c1.min()) / field.columns.slice_nm)


def _mean_adjusted(field: FieldFit, difference: np.ndarray) -> np.ndarray:
    """The difference with the mean of each region removed, 0 outside of the regions."""
    rows, cols = field.targets.shape[1:]
    adjusted = np.zeros_like(difference)
    for region in field.task.regions:
        r, c = region.origin
        part = difference[r : r + rows, c : c + cols]
        adjusted[r : r + rows, c : c + cols] = part - part.mean()
    return adjusted


def as_field_entry(entry: RegionEntry) -> FieldEntry:
    """A region's entry, without what only the joint refinement knows."""
    return FieldEntry(**{f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)})


def _refined_entries(
    field: FieldFit, counts: FieldCounts, image: np.ndarray, charges: dict[str, float] | None
) -> tuple[tuple[FieldEntry, ...], list[float | None], tuple[set, dict, dict]]:
    """(entries of the regions, their chi-squares, errors of the imaging parameters)."""
    assert field.pooled is not None
    fit, layout = field.fit, field.layout
    coordinates, local = field.coordinates()
    own_covariance, shared_covariance = field.pooled.system.covariances()
    width = np.asarray(coordinates.width, float)
    free = np.array(coordinates.free)
    numbers = np.isin(free[:local], np.arange(layout.counts.start, layout.counts.stop))
    simulations = field.cut(image)
    offsets = lattice_offsets(field)
    known_before = known_without_image(coordinates)
    deviation_shared = np.sqrt(np.maximum(np.diagonal(shared_covariance), 0.0))
    std_shared = determined_std(deviation_shared, known_before[local:]) * width[local:]
    every = point_names(field.columns, layout)
    names = [every[index] for index in free[local:]]
    entries = []
    for k, region in enumerate(field.task.regions):
        std = np.full(layout.size, np.nan)
        # what is held at a bound has no error of its own, and moves nothing else
        scaled = np.nan_to_num(own_covariance[k])
        scaled = without_mean_shift(scaled, free[:local], layout, width[:local])
        covariance = scaled * np.outer(width[:local], width[:local])
        deviation = np.sqrt(np.maximum(np.diagonal(scaled), 0.0))
        deviation = np.where(np.isnan(np.diagonal(own_covariance[k])), np.inf, deviation)
        deviation = determined_std(deviation, known_before[:local]) * width[:local]
        std[free[:local]] = np.where(numbers, np.nan, deviation)
        for index, error in zip(free[local:], std_shared, strict=True):
            if index == INDEX["C1"] or index in fit.bounds.camera:
                std[index] = error
        whitened = np.asarray(field.model.whiten(simulations[k] - region.image))
        chi2 = float(np.sum(whitened**2)) / max(region.image.size - local, 1)
        entry = as_field_entry(
            region_entry(
                fit,
                k,
                simulations[k],
                std,
                chi2,
                counts.probabilities[k],
                fit.exit_vector(k),
                ("C1", "absorption", "A0_x", "A0_y"),
            )
        )
        entry = dataclasses.replace(
            entry,
            certified=bool(counts.certified[k]),
            height_cells=int(field.heights[k]),
            lattice_offset_pm=tuple(float(n) for n in 1e3 * offsets[k]),
            surfaces=surfaces(field, k),
        )
        at = [j for j, index in enumerate(free[:local]) if index in _shift_indices(field)]
        if at:
            known = error_scale(
                field.noise,
                field.is_noise,
                field.task.field.noise,
                region.image,
                simulations[k] - region.image,
                chi2,
            )
            scale = known.noise * known.misfit
            shifts = field.points[k, layout.shifts].reshape(-1, 2)
            spread = covariance[np.ix_(at, at)]
            polar = None
            if charges is not None:
                polar = polarisation(field.columns, charges, shifts, spread, scale)
            entry = dataclasses.replace(
                entry,
                displacement=displacements(field.columns, shifts, spread, scale),
                polarisation_uC_cm2=polar,
            )
        entries.append(entry)
    chi2 = [entry.fit.chi2_reduced for entry in entries]
    whole = field.cut(field.task.field.image)
    mean = float(np.mean([c or 1.0 for c in chi2]))
    known = error_scale(
        field.noise,
        field.is_noise,
        field.task.field.noise,
        whole[0],
        (simulations - field.targets).reshape(-1, whole.shape[-1]),
        mean,
    )
    std_noise = {
        n: float(s * known.noise) if np.isfinite(s) else None
        for n, s in zip(names, std_shared, strict=True)
    }
    std = {n: None if s is None else s * known.misfit for n, s in std_noise.items()}
    return tuple(entries), chi2, (set(names), std_noise, std)


def _correlations(field: FieldFit, std_noise: dict[str, float | None]) -> tuple[Correlation, ...]:
    """Strong ones among the imaging parameters that all regions share."""
    assert field.pooled is not None
    _, covariance = field.pooled.system.covariances()
    determined = np.array([s is not None for s in std_noise.values()])
    return correlations_of(strong_correlations(covariance, list(std_noise), determined))


def _shift_indices(field: FieldFit) -> set[int]:
    return set(range(field.layout.shifts.start, field.layout.shifts.stop))


def _remarks(entries: Sequence[FieldEntry], fit: RegionFit) -> list[str]:
    remarks = [
        f"{entry.name}: a change of numbers may still improve it"
        for entry in entries
        if not entry.certified
    ]
    for k, entry in enumerate(entries):
        counts = np.rint(fit.points[k, fit.layout.counts])
        if fit.task.settings.reconstruct.surface_rule and isolated_surface_atom(fit.sites, counts):
            remarks.append(
                f"{entry.name}: an isolated surface atom is kept, since the image demands it"
            )
    if not fit.is_noise:
        remarks.append(
            "the misfit exceeds the noise: it weighs the pixels, and probabilities and errors "
            "follow from it"
        )
    return remarks
