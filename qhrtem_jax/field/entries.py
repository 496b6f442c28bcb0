"""What the result says of each region after the joint refinement."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.counting import FieldCounts
from qhrtem_jax.field.model import FieldModel, JointState, free_coordinates
from qhrtem_jax.field.properties import displacements, polarisation, surfaces
from qhrtem_jax.field.result import FieldEntry
from qhrtem_jax.field.simulate import cut, lattice_offsets
from qhrtem_jax.matching.weights import ErrorScale, error_scale
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.uncertainty import (
    determined_std,
    known_without_image,
    strong_correlations,
    without_mean_shift,
)
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.regions.model import RegionState, exit_vector
from qhrtem_jax.regions.result import region_entry
from qhrtem_jax.reporting.column_tables import point_names
from qhrtem_jax.reporting.result import Correlation, correlations_of


@dataclasses.dataclass(frozen=True)
class SharedErrors:
    """Errors of the imaging parameters that all regions share, by name (None: not determined), the
    strong correlations among them, and what makes errors of the normal equations those."""

    std_noise: dict[str, float | None]
    std: dict[str, float | None]
    correlations: tuple[Correlation, ...]
    scale: ErrorScale


def as_field_entry(entry: RegionEntry) -> FieldEntry:
    """A region's entry, without what only the joint refinement knows."""
    return FieldEntry(**{f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)})


def refined_entries(
    model: FieldModel,
    state: JointState,
    counted: RegionState,
    counts: FieldCounts,
    refined: Float[np.ndarray, "field_rows field_cols"],
    charges: dict[str, float] | None,
) -> tuple[tuple[FieldEntry, ...], SharedErrors]:
    """(entries of the regions, errors of the imaging parameters that they share)."""
    layout, noise = model.layout, state.weights.noise
    found = free_coordinates(model, state)
    coordinates, local = found.coordinates, found.own
    own_covariance, shared_covariance = state.normal_equations.of_errors().covariances()
    free, width = coordinates.index, coordinates.host().width
    numbers = np.isin(free[:local], np.arange(layout.counts.start, layout.counts.stop))
    at = np.flatnonzero(np.isin(free[:local], np.arange(layout.shifts.start, layout.shifts.stop)))
    simulations = cut(model, refined)
    offsets = lattice_offsets(model, state)
    known_before = known_without_image(coordinates)
    deviation_shared = np.sqrt(np.maximum(np.diagonal(shared_covariance), 0.0))
    std_shared = determined_std(deviation_shared, known_before[local:]) * width[local:]
    every = point_names(model.columns, layout)
    names = [every[index] for index in free[local:]]
    of_regions = region_scales(model, state, simulations)
    entries = []
    for k in range(len(model.problem.regions)):
        std = np.full(layout.size, np.nan)
        # what is fixed has no error of its own, and moves nothing else
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
        chi2, known = of_regions[k]
        entry = region_entry(
            model.regions,
            counted,
            k,
            simulations[k],
            std,
            chi2,
            counts.beliefs[k],
            exit_vector(model.regions, state.points[k], state.stack.begins[k]),
            ("C1", "absorption", "A0_x", "A0_y"),
            state.stack.begins[k],
        )
        displacement = polar = None
        if at.size:
            scale = known.noise * known.misfit
            shifts = state.points[k, layout.shifts].reshape(-1, 2)
            spread = covariance[np.ix_(at, at)]
            displacement = displacements(model.columns, shifts, spread, scale)
            if charges is not None:
                polar = polarisation(model.columns, charges, shifts, spread, scale)
        entries.append(
            dataclasses.replace(
                as_field_entry(entry),
                certified=bool(counts.certified[k]),
                height_cells=int(state.stack.heights[k]),
                lattice_offset_pm=tuple(float(n) for n in 1e3 * offsets[k]),
                surfaces=surfaces(model, state, k),
                displacement=displacement,
                polarisation_uC_cm2=polar,
            )
        )
    whole = cut(model, model.problem.field.image)
    mean = float(np.mean([entry.fit.chi2_reduced or 1.0 for entry in entries]))
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
    determined = np.array([s is not None for s in std_noise.values()])
    correlations = strong_correlations(shared_covariance, names, determined)
    return tuple(entries), SharedErrors(std_noise, std, correlations_of(correlations), known)


def region_scales(
    model: FieldModel, state: JointState, simulations: Float[np.ndarray, "regions rows cols"]
) -> list[tuple[float, ErrorScale]]:
    """Of each region, its reduced chi-square against the weights of pixels, and what makes errors
    of the normal equations those of what is its own."""
    local, scales = free_coordinates(model, state).own, []
    for simulation, region in zip(simulations, model.problem.regions, strict=True):
        chi2 = float(state.weights.fit.likelihood.objective(simulation, region.image))
        chi2 = chi2 / max(region.image.size - local, 1)
        missed = simulation - region.image
        known = error_scale(state.weights.noise, model.given_noise, region.image, missed, chi2)
        scales.append((chi2, known))
    return scales
