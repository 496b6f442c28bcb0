"""Stage `stitch`: one model of the field from its regions, and its joint refinement."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.field.counting import FieldCounts, certify
from qhrtem_jax.field.joint import refine
from qhrtem_jax.field.layout import field_layout
from qhrtem_jax.field.model import FieldModel, JointState, field_model, free_coordinates
from qhrtem_jax.field.properties import displacements, polarisation, supercell, surfaces
from qhrtem_jax.field.simulate import (
    cut,
    exits,
    first_state,
    global_imaging,
    image,
    lattice_offsets,
    plane_vector,
)
from qhrtem_jax.imaging.search import Progress
from qhrtem_jax.inputs import problem
from qhrtem_jax.inputs.problem import describe_input
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.weights import error_scale
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.integers import isolated_surface_atom
from qhrtem_jax.refine.uncertainty import (
    determined_std,
    known_without_image,
    strong_correlations,
    without_mean_shift,
)
from qhrtem_jax.regions import reconstruct
from qhrtem_jax.regions.fit import count, relax, start
from qhrtem_jax.regions.model import RegionsModel, RegionState, exit_vector, regions_model
from qhrtem_jax.regions.problem import ReconstructProblem
from qhrtem_jax.regions.result import (
    all_correlations,
    region_entries,
    region_entry,
    summary_fit,
)
from qhrtem_jax.reporting.column_tables import point_names
from qhrtem_jax.reporting.result import describe_noise, header, noise_remarks, parameter_table

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StitchProblem:
    """Everything that was read and checked; `counted`: arrays and result of an earlier count."""

    regions: ReconstructProblem
    counted: tuple[dict[str, np.ndarray], dict[str, Any]] | None

    @property
    def settings(self) -> RunSettings:
        return self.regions.settings

    @property
    def fingerprint(self) -> str:
        return self.regions.fingerprint


def prepare(settings: RunSettings) -> StitchProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used.
    """
    regions = reconstruct.prepare(settings)
    charges = settings.stitch.charges
    if charges is not None:
        species = {chain.symbol for chain in regions.specimen.columns.chains}
        if set(charges) != species:
            raise InputError(
                f"stitch.charges: found {sorted(charges)}, expected one of {sorted(species)} each"
            )
    field_layout(regions)  # refuses regions that cannot be stitched, before any work
    path = settings.stitch.result
    return StitchProblem(regions, None if path is None else _read_counts(Path(path), regions))


def _read_counts(
    path: Path, regions: ReconstructProblem
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    result, arrays = RunFolder(path).read_result(), RunFolder(path).read_arrays()
    now = describe_input(regions.settings)
    before = result.get("input")
    if not isinstance(before, dict) or not isinstance(result.get("rois"), list):
        raise InputError(f"stitch.result: {path} holds no reconstruct result")
    for group in ("specimen", "microscope"):
        theirs = before.get(group)
        theirs = theirs if isinstance(theirs, dict) else {}
        wrong = [k for k, v in now[group].items() if theirs.get(k) != _plain(v)]
        if wrong:
            raise InputError(
                f"stitch.result: {path} was counted with {group}.{wrong[0]}="
                f"{theirs.get(wrong[0])!r}, expected {now[group][wrong[0]]!r} as in this run"
            )
    origins = [list(r.origin) for r in regions.regions]
    shape = (len(origins), regions.layout.size)
    found = [roi.get("origin_px") for roi in result["rois"] if isinstance(roi, dict)]
    if result.get("stage") != "reconstruct" or found != origins:
        raise InputError(
            f"stitch.result: {path} holds no reconstruct result of these {len(origins)} regions"
        )
    for name in ("points", "relaxed_points"):
        if name not in arrays or arrays[name].shape != shape:
            raise InputError(f"stitch.result: {path}/arrays.npz lacks {name} of shape {shape}")
    return arrays, result


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def run(
    task: StitchProblem, folder: RunFolder, report: Callable[[Progress], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Stitch and refine, and return (result, arrays)."""
    regions = task.regions
    journal = Journal(folder, report)
    fit = regions_model(regions, regions.imaging.vector(folder, report))
    counted = _counted_regions(task, fit, journal)
    model = field_model(fit)
    state = first_state(model, counted)
    integrated = _integrated(model, state, task.settings.stitch.rounding)
    absorption = integrated["absorption_global"]
    experiment = regions.field.image
    simulation = image(model, state, journal, absorption)
    integrated["fit"] = summary_fit(cut(model, simulation), fit.targets, [])
    journal.note("stitched", integrated["fit"]["mse"])
    arrays = {
        "experiment": experiment,
        "simulation": simulation,
        "difference": simulation - experiment,
        "difference_mean_adjusted": _mean_adjusted(model, simulation - experiment),
    }
    vector, free, std_noise, std = global_imaging(model, state), set(), {}, {}
    correlations: list[dict[str, Any]] = []
    if task.settings.stitch.refine:
        state, fixed = refine(model, state, counted, journal)
        state, counts = certify(model, state, journal, fixed, task.settings.stitch.sweeps)
        counted = dataclasses.replace(counted, points=state.points, noise=state.weights.noise)
        refined = image(model, state, journal)
        arrays["simulation_refined"] = refined
        arrays["points"] = state.points
        arrays["difference_mean_adjusted"] = _mean_adjusted(model, refined - experiment)
        entries, chi2, shared = _refined_entries(
            model, state, counted, counts, refined, task.settings.stitch.charges
        )
        correlations = _correlations(state, shared[1])
        integrated["fit_refined"] = summary_fit(cut(model, refined), fit.targets, chi2)
        vector = plane_vector(model, state)
        free, std_noise, std = shared
        integrated["C1_global_refined_nm"] = float(vector[INDEX["C1"]])
        integrated["heights_cells"] = state.stack.heights.tolist()
    else:
        entries = region_entries(fit, counted) if task.counted is None else task.counted[1]["rois"]
        correlations = all_correlations(entries)
    size_nm, atoms = supercell(model, state)
    folder.write_structures({"field": (size_nm, atoms, "stitched model of the field")})
    noise = counted.noise
    result = header(task.settings) | {
        "warnings": regions.warnings
        + regions.imaging.warnings
        + _remarks(entries, fit, counted)
        + noise_remarks(noise),
        "grid": problem.describe_grid(fit.choice),
        "noise": describe_noise(noise),
        "fit": integrated.get("fit_refined", integrated["fit"]),
        "parameters": parameter_table(vector, free, std_noise, std),
        "correlations": correlations,
        "rois": entries,
        "field": integrated,
        "cost": journal.cost(),
    }
    return result, {k: v.astype(np.float32) for k, v in arrays.items()}


def _counted_regions(task: StitchProblem, model: RegionsModel, journal: Journal) -> RegionState:
    """The regions, counted now or handed over."""
    if task.counted is None:
        return count(model, relax(model, start(model, journal), journal), journal)
    arrays, result = task.counted
    points, relaxed_points = arrays["points"].copy(), arrays["relaxed_points"].copy()
    if not model.bounds.camera:  # this run takes the MTF as it is given
        points[:, model.layout.mtf_stretch] = 0.0
        relaxed_points[:, model.layout.mtf_stretch] = 0.0
    known = result["noise"]
    noise = NoiseModel(known["variance"], tuple(known["correlation"]), known["source"])
    return RegionState(points, relaxed_points, noise)


def _integrated(model: FieldModel, state: JointState, rounding: str) -> dict[str, Any]:
    """The paper's section 4.3: the global C1 is the smallest of the regions', which lie above that
    plane by the difference."""
    c1 = np.array([exit_vector(model.regions, point)[INDEX["C1"]] for point in state.points])
    if rounding == "cell":
        last = exits(model, state)
        shifts = (last.max() - last).astype(float)
    else:
        shifts = (c1 - c1.min()) / model.columns.slice_nm
    return {
        "C1_global_nm": float(np.min(c1)),
        "absorption_global": float(np.mean(state.points[:, INDEX["absorption"]])),
        "shifts_slices": shifts.tolist(),
    }


def _mean_adjusted(model: FieldModel, difference: np.ndarray) -> np.ndarray:
    """The difference with the mean of each region removed, 0 outside of the regions."""
    rows, cols = model.targets.shape[1:]
    adjusted = np.zeros_like(difference)
    for r, c in model.corners:
        part = difference[r : r + rows, c : c + cols]
        adjusted[r : r + rows, c : c + cols] = part - part.mean()
    return adjusted


def _refined_entries(
    model: FieldModel,
    state: JointState,
    counted: RegionState,
    counts: FieldCounts,
    refined: np.ndarray,
    charges: dict[str, float] | None,
) -> tuple[list[dict[str, Any]], list[float | None], tuple[set, dict, dict]]:
    """(entries of the regions, their chi-squares, errors of the imaging parameters)."""
    layout, noise = model.layout, state.weights.noise
    coordinates, local = (found := free_coordinates(model, state)).coordinates, found.own
    own_covariance, shared_covariance = state.normal_equations.covariances()
    free, width = coordinates.index, coordinates.host().width
    numbers = np.isin(free[:local], np.arange(layout.counts.start, layout.counts.stop))
    simulations = cut(model, refined)
    offsets = lattice_offsets(model, state)
    known_before = known_without_image(coordinates)
    deviation_shared = np.sqrt(np.maximum(np.diagonal(shared_covariance), 0.0))
    std_shared = determined_std(deviation_shared, known_before[local:]) * width[local:]
    every = point_names(model.columns, layout)
    names = [every[index] for index in free[local:]]
    entries = []
    for k, region in enumerate(model.problem.regions):
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
            if index == INDEX["C1"] or index in model.regions.bounds.camera:
                std[index] = error
        chi2 = float(state.weights.fit.likelihood.objective(simulations[k], region.image))
        chi2 = chi2 / max(region.image.size - local, 1)
        entry = region_entry(
            model.regions,
            counted,
            k,
            simulations[k],
            std,
            chi2,
            counts.probabilities[k],
            exit_vector(model.regions, state.points[k]),
            ("C1", "absorption", "A0_x", "A0_y"),
        )
        entry["certified"] = bool(counts.certified[k])
        entry["height_cells"] = int(state.stack.heights[k])
        entry["lattice_offset_pm"] = (1e3 * offsets[k]).tolist()
        entry["surfaces"] = surfaces(model, state, k)
        at = [j for j, index in enumerate(free[:local]) if index in _shift_indices(model)]
        if at:
            known = error_scale(
                noise,
                model.given_noise,
                region.image,
                simulations[k] - region.image,
                chi2,
            )
            scale = known.noise * known.misfit
            shifts = state.points[k, layout.shifts].reshape(-1, 2)
            spread = covariance[np.ix_(at, at)]
            entry["displacement"] = displacements(model.columns, shifts, spread, scale)
            if charges is not None:
                entry["polarisation_uC_cm2"] = polarisation(
                    model.columns, charges, shifts, spread, scale
                )
        entries.append(entry)
    chi2 = [entry["fit"]["chi2_reduced"] for entry in entries]
    whole = cut(model, model.problem.field.image)
    mean = float(np.mean([c or 1.0 for c in chi2]))
    known = error_scale(
        noise,
        model.given_noise,
        whole[0],
        (simulations - model.targets).reshape(-1, whole.shape[-1]),
        mean,
    )
    std_noise = {
        n: float(s * known.noise) if np.isfinite(s) else None
        for n, s in zip(names, std_shared, strict=True)
    }
    std = {n: None if s is None else s * known.misfit for n, s in std_noise.items()}
    return entries, chi2, (set(names), std_noise, std)


def _correlations(state: JointState, std_noise: dict[str, float | None]) -> list[dict[str, Any]]:
    """Strong ones among the imaging parameters that all regions share."""
    _, covariance = state.normal_equations.covariances()
    determined = np.array([s is not None for s in std_noise.values()])
    return strong_correlations(covariance, list(std_noise), determined)


def _shift_indices(model: FieldModel) -> set[int]:
    return set(range(model.layout.shifts.start, model.layout.shifts.stop))


def _remarks(entries: list[dict[str, Any]], fit: RegionsModel, state: RegionState) -> list[str]:
    remarks = [
        f"{entry['name']}: a change of numbers may still improve it"
        for entry in entries
        if not entry["certified"]
    ]
    for k, entry in enumerate(entries):
        counts = np.rint(state.points[k, fit.layout.counts])
        if fit.problem.settings.reconstruct.surface_rule and isolated_surface_atom(
            fit.sites, counts
        ):
            remarks.append(
                f"{entry['name']}: an isolated surface atom is kept, since the image demands it"
            )
    if not state.noise.is_noise:
        remarks.append(
            "the misfit exceeds the noise: it weighs the pixels, and probabilities and errors "
            "follow from it"
        )
    return remarks
