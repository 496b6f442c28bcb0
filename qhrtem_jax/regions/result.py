"""The `rois` of a result."""

from typing import Any

import numpy as np
from jaxtyping import Float

from qhrtem_jax.matching.weights import error_scale
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.refine.uncertainty import (
    determined_std,
    known_without_image,
    strong_correlations,
    without_mean_shift,
)
from qhrtem_jax.regions.model import LOCAL, RegionsModel, RegionState, exit_vector, fitter
from qhrtem_jax.reporting.column_tables import (
    columns_table,
    counts_table,
    mtf_scale_table,
    point_names,
    region_structure,
)
from qhrtem_jax.reporting.result import figures_of_merit, parameter_table


def region_entries(model: RegionsModel, state: RegionState) -> list[dict[str, Any]]:
    """One entry per region, after `count`."""
    assert state.counted is not None
    layout, nuisances = model.layout, model.nuisances
    lin = fitter(model, state.noise).linearise(nuisances, state.points, model.targets)
    width, precision = nuisances.host().width, np.diag(nuisances.host().precision)
    free = nuisances.index
    known = known_without_image(nuisances)
    every = point_names(model.columns, layout)
    names = [every[index] for index in free]
    entries = []
    for k, region in enumerate(model.problem.regions):
        std = np.full(layout.size, np.nan)
        correlations: list[dict[str, Any]] = []
        if np.all(np.isfinite(lin.hessian[k])):
            covariance = np.linalg.pinv(lin.hessian[k] + precision, hermitian=True)
            covariance = without_mean_shift(covariance, free, layout, width)
            deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
            std[free] = determined_std(deviation, known) * width
            correlations = strong_correlations(covariance, names, np.isfinite(std[free]))
        chi2 = float(lin.cost[k]) / max(region.image.size - len(free) - layout.chains, 1)
        entries.append(
            region_entry(
                model,
                state,
                k,
                np.asarray(lin.image[k]),
                std,
                chi2,
                state.counted.probabilities(k),
                exit_vector(model, state.points[k]),
            )
            | {"correlations": correlations}
        )
    return entries


def region_entry(
    model: RegionsModel,
    state: RegionState,
    k: int,
    simulation: Float[np.ndarray, "rows cols"],
    std: Float[np.ndarray, " point"],
    chi2: float,
    probabilities: list[dict[int, float]],
    vector: Float[np.ndarray, " parameters"],
    free: tuple[str, ...] = LOCAL,
) -> dict[str, Any]:
    """Entry of region `k`; `std` over its whole point, from the weights of the fit."""
    task, layout, columns, noise = model.problem, model.layout, model.columns, state.noise
    free = tuple(name for name in free if name in model.bounds.imaging)
    region, point = task.regions[k], state.points[k]
    residual = simulation - region.image
    scale = error_scale(noise, task.field.noise, region.image, residual, chi2)
    std = std * scale.noise
    std_noise = {name: _finite(std[INDEX[name]]) for name in free}
    scaled = {name: _finite(std[INDEX[name]] * scale.misfit) for name in free}
    counts = np.rint(point[layout.counts])
    first, last = model.sites.extent(counts)
    entry = {
        "name": region.name,
        "origin_px": list(region.origin),
        "fit": figures_of_merit(simulation, region.image)
        | {"chi2_reduced": None if noise.source == "residual" else scale.chi2},
        "parameters": parameter_table(vector, set(free), std_noise, scaled),
        "counts": counts_table(columns, counts, probabilities),
        "columns": columns_table(columns, layout, point, std, scale.misfit),
        "thickness_nm": float((int(last) - int(first)) * columns.slice_nm),
        "certified": bool(state.counted.certified[k]) if state.counted is not None else None,
    }
    if model.bounds.camera:
        given = task.settings.data.mtf_scale
        entry["mtf_scale"] = mtf_scale_table(layout, given, point, std, scale.misfit)
    return entry


def all_correlations(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `correlations` of all regions, with the region's name before the parameters'."""
    return [
        {"a": f"{e['name']}: {pair['a']}", "b": f"{e['name']}: {pair['b']}", "r": pair["r"]}
        for e in entries
        for pair in e.get("correlations", [])
    ]


def structures(
    model: RegionsModel, points: Float[np.ndarray, "regions point"]
) -> dict[str, tuple[tuple[float, float, float], Atoms, str]]:
    """(size in nm, atoms, comment) of every region with atoms, by name."""
    a, b, c = model.columns.size_nm
    size = a, b, c * (model.sites.stack // model.columns.slices)
    found = {}
    for region, point in zip(model.problem.regions, points, strict=True):
        atoms = region_structure(model.columns, model.sites, model.layout, point)
        if atoms.symbols:
            found[region.name] = size, atoms, region.name
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def summary_fit(
    simulations: np.ndarray, experiment: np.ndarray, chi2: list[float | None]
) -> dict[str, float | None]:
    """Figures of merit over all regions together."""
    stacked = (a.reshape(-1, a.shape[-1]) for a in (simulations, experiment))
    merit = figures_of_merit(*stacked)
    known = [c for c in chi2 if c is not None]
    return merit | {
        "ncc_peak_offset_px": None,
        "ssim": None,
        "chi2_reduced": float(np.mean(known)) if known else None,
    }
