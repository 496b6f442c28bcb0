"""Numbers of atoms of regions, as a result."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.matching.weights import error_scale
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.integers import Belief, doubtful_exit
from qhrtem_jax.refine.uncertainty import (
    determined_std,
    known_without_image,
    strong_correlations,
    without_mean_shift,
)
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.regions.model import LOCAL, RegionsModel, RegionState, exit_vector, fitter
from qhrtem_jax.reporting.column_tables import (
    columns_table,
    counts_table,
    in_file,
    mtf_scale_table,
    point_names,
    region_structure,
)
from qhrtem_jax.reporting.result import (
    ASIDE,
    Correlation,
    Fit,
    FitResult,
    correlations_of,
    figures_of_merit,
    parameter_table,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionsResult(FitResult):
    """The regions, each with its numbers of atoms."""

    rois: tuple[RegionEntry, ...]
    cell: Columns = dataclasses.field(metadata=ASIDE)


def region_entries(model: RegionsModel, state: RegionState) -> tuple[RegionEntry, ...]:
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
        entry = region_entry(
            model,
            state,
            k,
            np.asarray(lin.image[k]),
            std,
            chi2,
            state.counted.belief(k, model.sites),
            exit_vector(model, state.points[k]),
        )
        entries.append(dataclasses.replace(entry, correlations=correlations_of(correlations)))
    return tuple(entries)


def region_entry(
    model: RegionsModel,
    state: RegionState,
    k: int,
    simulation: Float[np.ndarray, "rows cols"],
    std: Float[np.ndarray, " point"],
    chi2: float,
    belief: Belief,
    vector: Float[np.ndarray, " parameters"],
    free: tuple[str, ...] = LOCAL,
    begins: Int[np.ndarray, " chains"] | None = None,
) -> RegionEntry:
    """Entry of region `k`; `std` over its whole point, from the weights of the fit; `begins` as for
    the sites."""
    problem, layout, columns, noise = model.problem, model.layout, model.columns, state.noise
    free = tuple(name for name in free if name in model.bounds.imaging)
    region, point = problem.regions[k], state.points[k]
    residual = simulation - region.image
    scale = error_scale(noise, problem.field.noise, region.image, residual, chi2)
    std = std * scale.noise
    std_noise = {name: _finite(std[INDEX[name]]) for name in free}
    scaled = {name: _finite(std[INDEX[name]] * scale.misfit) for name in free}
    counts = np.rint(point[layout.counts])
    first, last = model.sites.extent(counts, begins)
    scales = None
    if model.bounds.camera:
        given = problem.settings.data.mtf_scale
        scales = mtf_scale_table(layout, given, point, std, scale.misfit)
    known_chi2 = None if noise.source == "residual" else scale.chi2
    numbers = counts_table(columns, counts, belief.numbers)
    table = columns_table(columns, layout, point, std, scale.misfit)
    corners = region.corners_px
    if corners is not None:
        numbers, table = in_file(numbers, table, corners, columns.size_nm)
    return RegionEntry(
        name=region.name,
        origin_px=region.origin,
        fit=figures_of_merit(simulation, region.image, known_chi2),
        parameters=parameter_table(vector, set(free), std_noise, scaled),
        counts=numbers,
        columns=table,
        thickness_nm=float((int(last) - int(first)) * columns.slice_nm),
        certified=bool(state.counted.certified[k]) if state.counted is not None else None,
        mtf_scale=scales,
        exit_probability={str(n): round(p, 4) for n, p in belief.exits.items()},
        exit_rests_on=_named_chain(columns, doubtful_exit(model.sites, counts, belief, begins)),
        corners_px=None if corners is None else tuple((float(x), float(y)) for x, y in corners),
    )


def _named_chain(columns: Columns, chain: int | None) -> str | None:
    if chain is None:
        return None
    x, y = columns.xy[columns.chains[chain].column]
    return f"{columns.chains[chain].symbol} at {x:.3f}, {y:.3f}"


def exit_remarks(entries: Sequence[RegionEntry]) -> tuple[str, ...]:
    """Exits that are doubtful."""
    return tuple(
        f"{entry.name}: its exit rests on one doubtful atom ({entry.exit_rests_on})"
        for entry in entries
        if entry.exit_rests_on is not None
    )


def region_models(
    model: RegionsModel, points: Float[np.ndarray, "regions point"]
) -> dict[str, AtomModel]:
    """The atoms of each region, in a cell as high as the stack."""
    a, b, c = model.columns.size_nm
    size = a, b, c * (model.sites.stack // model.columns.slices)
    models = {}
    for region, point in zip(model.problem.regions, points, strict=True):
        atoms = region_structure(model.columns, model.sites, model.layout, point)
        if atoms.symbols:
            models[region.name] = AtomModel(size, atoms, region.name)
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
    simulations: Float[np.ndarray, "regions rows cols"],
    experiment: Float[np.ndarray, "regions rows cols"],
    chi2: Sequence[float | None],
) -> Fit:
    """Figures of merit over all regions together."""
    sim, exp = (a.reshape(-1, a.shape[-1]) for a in (simulations, experiment))
    known = [c for c in chi2 if c is not None]
    merit = figures_of_merit(sim, exp, float(np.mean(known)) if known else None)
    return dataclasses.replace(merit, ncc_peak=None, ncc_peak_offset_px=None, ssim=None)
