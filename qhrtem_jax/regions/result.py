"""Numbers of atoms of regions, as a result."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qhrtem_jax.inputs.columns import (
    determined_std,
    error_scale,
    known_without_image,
    without_mean_shift,
)
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.uncertainty import strong_correlations
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.regions.fit import LOCAL, RegionFit
from qhrtem_jax.reporting.column_tables import (
    columns_table,
    counts_table,
    mtf_scale_table,
    point_names,
    region_structure,
)
from qhrtem_jax.reporting.result import (
    ASIDE,
    Correlation,
    Fit,
    FitResult,
    Model,
    correlations_of,
    figures_of_merit,
    parameter_table,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionsResult(FitResult):
    """The regions, each with its numbers of atoms."""

    rois: tuple[RegionEntry, ...]
    cell: Columns = dataclasses.field(metadata=ASIDE)


def region_entries(fit: RegionFit) -> tuple[RegionEntry, ...]:
    """One entry per region, after `RegionFit.count`."""
    assert fit.counted is not None
    task, layout = fit.task, fit.layout
    lin = fit.model.linearise(fit.nuisances, fit.points, fit.targets)
    width = np.asarray(fit.nuisances.width, float)
    precision = np.diag(1.0 / np.square(np.asarray(fit.nuisances.prior_std, float)))
    free = np.array(fit.nuisances.free)
    known = known_without_image(fit.nuisances)
    every = point_names(fit.columns, layout)
    names = [every[index] for index in free]
    entries = []
    for k, region in enumerate(task.regions):
        std = np.full(layout.size, np.nan)
        correlations: list[dict[str, Any]] = []
        if np.all(np.isfinite(lin.hessian[k])):
            covariance = np.linalg.pinv(lin.hessian[k] + precision, hermitian=True)
            covariance = without_mean_shift(covariance, free, layout, width)
            deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
            std[free] = determined_std(deviation, known) * width
            correlations = strong_correlations(covariance, names, np.isfinite(std[free]))
        chi2 = float(lin.cost[k]) / max(region.image.size - len(free) - layout.chains, 1)
        entry = region_entry(
            fit,
            k,
            np.asarray(lin.image[k]),
            std,
            chi2,
            fit.counted.probabilities(k),
            fit.exit_vector(k),
        )
        entries.append(dataclasses.replace(entry, correlations=correlations_of(correlations)))
    return tuple(entries)


def region_entry(
    fit: RegionFit,
    k: int,
    simulation: np.ndarray,
    std: np.ndarray,
    chi2: float,
    probabilities: list[dict[int, float]],
    vector: np.ndarray,
    free: tuple[str, ...] = LOCAL,
) -> RegionEntry:
    """Entry of region `k`; `std` over its whole point, from the weights of the fit."""
    task, layout, columns = fit.task, fit.layout, fit.columns
    free = tuple(name for name in free if name in fit.bounds.imaging)
    region, point = task.regions[k], fit.points[k]
    residual = simulation - region.image
    scale = error_scale(fit.noise, fit.is_noise, task.field.noise, region.image, residual, chi2)
    std = std * scale.noise
    std_noise = {name: _finite(std[INDEX[name]]) for name in free}
    scaled = {name: _finite(std[INDEX[name]] * scale.misfit) for name in free}
    counts = np.rint(point[layout.counts])
    first, last = fit.sites.extent(counts)
    scales = None
    if fit.bounds.camera:
        given = task.settings.data.mtf_scale
        scales = mtf_scale_table(layout, given, point, std, scale.misfit)
    known_chi2 = None if fit.noise.source == "residual" else scale.chi2
    return RegionEntry(
        name=region.name,
        origin_px=region.origin,
        fit=figures_of_merit(simulation, region.image, known_chi2),
        parameters=parameter_table(vector, set(free), std_noise, scaled),
        counts=counts_table(columns, counts, probabilities),
        columns=columns_table(columns, layout, point, std, scale.misfit),
        thickness_nm=float((int(last) - int(first)) * columns.slice_nm),
        certified=bool(fit.counted.certified[k]) if fit.counted is not None else None,
        mtf_scale=scales,
    )


def region_models(fit: RegionFit) -> dict[str, Model]:
    """The atoms of each region, in a cell as high as the stack."""
    a, b, c = fit.columns.size_nm
    cells = fit.sites.stack // fit.columns.slices
    models = {}
    for k, region in enumerate(fit.task.regions):
        atoms = region_structure(fit.columns, fit.sites, fit.layout, fit.points[k])
        if atoms.symbols:
            models[region.name] = ((a, b, c * cells), atoms, region.name)
    return models


def all_correlations(entries: Sequence[RegionEntry]) -> tuple[Correlation, ...]:
    """The `correlations` of all regions, with the region's name before the parameters'."""
    return tuple(
        Correlation(f"{e.name}: {pair.a}", f"{e.name}: {pair.b}", pair.r)
        for e in entries
        for pair in e.correlations or ()
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def summary_fit(
    simulations: np.ndarray, experiment: np.ndarray, chi2: Sequence[float | None]
) -> Fit:
    """Figures of merit over all regions together."""
    sim, exp = (a.reshape(-1, a.shape[-1]) for a in (simulations, experiment))
    known = [c for c in chi2 if c is not None]
    merit = figures_of_merit(sim, exp, float(np.mean(known)) if known else None)
    return dataclasses.replace(merit, ncc_peak_offset_px=None, ssim=None)
