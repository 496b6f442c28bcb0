"""What stays the same during the fit of all regions, and what changes."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.engines import IN_PROCESS, Engine
from qhrtem_jax.inputs.columns import bounds_of
from qhrtem_jax.inputs.handover import HandedErrors, HandedImaging
from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.matching.noise import GUESSED_NOISE, NoiseModel
from qhrtem_jax.matching.weights import PossibleLayers
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.columns import Columns, Sites, sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, moved_plane
from qhrtem_jax.refine.bounds import PointBounds
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.counting import Counted
from qhrtem_jax.refine.integers import REJECTED, Constraints
from qhrtem_jax.refine.regions import ALL_KNOWN, RegionModel, Shared, make_region_model
from qhrtem_jax.refine.speckle import possible_layers
from qhrtem_jax.refine.surfaces import surfaces_of
from qhrtem_jax.regions.problem import RegionsProblem

LOCAL = ("C1", "absorption", "A0_x", "A0_y")
"""Imaging parameters that each region has for itself."""

C1_RANGE_NM = 15.0

LEAST_ERROR = 1e-6
"""Directions of less of the correlations' variance than this are certain."""


@dataclasses.dataclass(frozen=True)
class RegionsModel:
    """Everything that is constant during the fit of all regions.

    Points refer to the plane behind the whole stack of `max_cells`; results to each region's exit
    plane (`exit_vector`).
    """

    problem: RegionsProblem
    vector: Float[np.ndarray, " parameters"]  # imaging parameters as given
    layout: Layout
    columns: Columns
    sites: Sites
    most: Int[np.ndarray, " chains"]  # largest numbers of atoms
    constraints: Constraints
    choice: GridChoice
    simulator: StructuredSimulator
    bounds: PointBounds
    nuisances: Coordinates  # everything but the numbers of atoms
    relaxed: Coordinates  # the nuisances, then the numbers
    targets: Float[np.ndarray, "regions rows cols"]
    shared: Shared  # what is not known of the given imaging parameters
    reference_drift: Float[np.ndarray, " 2"]  # lattice drift (x, y, nm) that the given A0 holds
    engine: Engine

    @property
    def hidden(self) -> Bool[np.ndarray, "regions rows cols"]:
        """Pixels that carry no weight."""
        known, (rows, cols) = self.problem.field.hidden, self.targets.shape[1:]
        if known is None:
            return np.zeros(self.targets.shape, dtype=bool)
        corners = [region.origin for region in self.problem.regions]
        return np.array([known[r : r + rows, c : c + cols] for r, c in corners])

    @property
    def first_weights(self) -> NoiseModel:
        """What weighs the pixels of the first fit: the noise, where it is known."""
        return self.problem.field.noise or GUESSED_NOISE

    def layers_on(
        self,
        points: Float[np.ndarray, "regions point"],
        own: Coordinates,
        every: Coordinates | None = None,
    ) -> Callable[[], PossibleLayers] | None:
        """Disordered layers that may lie on regions at `points`; None where they are not asked
        for. `own`: what is fitted to each region, `every`: with what is fitted to all together."""
        if not self.problem.settings.data.speckle:
            return None

        def find() -> PossibleLayers:
            layers = self.problem.specimen.layers(self.problem.frame, self.choice)
            fit = fitter(self, self.first_weights)
            key = jax.random.key(self.problem.settings.seed)
            return possible_layers(layers, fit, self.sites, own, every or own, points, key)

        return find


@dataclasses.dataclass(frozen=True)
class RegionState:
    """How far the fit of all regions has come. Arrays are never written into.

    `noise` weighs the pixels; it says whether it is the noise or stands for the misfit.
    """

    points: Float[np.ndarray, "regions point"]
    relaxed_points: Float[np.ndarray, "regions point"]
    noise: NoiseModel
    counted: Counted | None = None
    remarks: tuple[str, ...] = ()


def regions_model(
    problem: RegionsProblem, imaging: HandedImaging, engine: Engine = IN_PROCESS
) -> RegionsModel:
    """The model of regions with the given imaging parameters but for what is their own."""
    vector = imaging.vector
    settings, columns, layout = problem.settings, problem.specimen.columns, problem.layout
    most = columns.most_atoms(settings.specimen.max_cells)
    choice = problem.specimen.grids(problem.frame, vector, problem.sites.stack)
    free = len(LOCAL) + layout.chains + 2 * layout.columns + len(NAMES)
    simulator = problem.specimen.simulator(problem.sites, problem.frame, choice, free)
    bounds = _bounds(problem, vector, most)
    positions = bounds.of(layout.shifts) if settings.reconstruct.positions else []
    nuisances = bounds.indices(bounds.free_names(LOCAL)) + positions + list(bounds.camera)
    dtype = simulator.dtype
    return RegionsModel(
        problem,
        vector,
        layout,
        columns,
        problem.sites,
        most,
        Constraints(
            surfaces_of(columns, problem.sites, settings.reconstruct.surfaces),
            most,
            REJECTED,
            columns.atoms_per_cell(),
            settings.reconstruct.roughness_cells,
        ),
        choice,
        simulator,
        bounds,
        bounds.coordinates(nuisances, dtype),
        bounds.coordinates(nuisances + bounds.of(layout.counts), dtype),
        problem.targets,
        _shared(imaging.errors, bounds),
        _mean_drift(problem),
        engine,
    )


def _shared(known: HandedErrors | None, bounds: PointBounds) -> Shared:
    """Independent errors of the given imaging parameters that regions do not have for themselves;
    those that are fixed in this run are exact."""
    if known is None:
        return ALL_KNOWN
    names = [n for n in known.names if n in bounds.imaging and n not in LOCAL]
    at = [known.names.index(name) for name in names]
    covariance = known.covariance[np.ix_(at, at)]
    scale = np.sqrt(np.maximum(np.diagonal(covariance), 1e-300))
    size, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
    directions = (np.sqrt(np.maximum(size, 0.0)) * axes).T * scale
    return Shared(tuple(bounds.indices(names)), directions[size > LEAST_ERROR])


def _bounds(problem: RegionsProblem, vector: np.ndarray, most: np.ndarray) -> PointBounds:
    settings, size_nm = problem.settings.reconstruct, problem.specimen.columns.size_nm
    bounds = bounds_of(problem.layout, problem.space).with_vector(vector)
    bounds = bounds.without_priors("C1", "A0_x", "A0_y")
    bounds = bounds.with_reach("C1", C1_RANGE_NM, float(vector[INDEX["C1"]]))
    for name in ("A0_x", "A0_y"):
        bounds = bounds.with_reach(name, max(size_nm[:2]), float(vector[INDEX[name]]))
    bounds = bounds.with_counts(most.astype(float)).with_shifts(settings.position_std_nm)
    return bounds.with_mtf_stretch(problem.specimen.mtf_scale_std)


def _mean_drift(problem: RegionsProblem) -> np.ndarray:
    """Drift of the regions that were averaged to find the given A0; zero where none are known."""
    frame = problem.field.frame
    drifts = [lattice_drift(o, problem.specimen.columns, frame) for o in problem.averaged]
    return np.mean(drifts or [np.zeros(2)], axis=0)


def with_targets(
    model: RegionsModel, targets: Float[np.ndarray, "regions rows cols"]
) -> RegionsModel:
    """The same regions with other images."""
    regions = tuple(
        dataclasses.replace(region, image=target)
        for region, target in zip(model.problem.regions, targets, strict=True)
    )
    problem = dataclasses.replace(model.problem, regions=regions)
    return dataclasses.replace(model, problem=problem, targets=targets)


def with_entrance(model: RegionsModel, entrance: int) -> RegionsModel:
    """The model of crystals that begin with another slice of the cell; its programs stay."""
    problem, columns = model.problem, model.columns
    specimen = problem.settings.specimen
    sites = sites_of(columns, specimen.max_cells, specimen.fill, entrance)
    ranks = jnp.asarray(sites.rank, model.simulator.potential.site_rank.dtype)
    surfaces = surfaces_of(columns, sites, problem.settings.reconstruct.surfaces)
    return dataclasses.replace(
        model,
        problem=dataclasses.replace(problem, sites=sites),
        sites=sites,
        constraints=dataclasses.replace(model.constraints, surfaces=surfaces),
        simulator=eqx.tree_at(lambda s: s.potential.site_rank, model.simulator, ranks),
    )


def fitter(model: RegionsModel, noise: NoiseModel) -> RegionModel:
    """Least squares of the regions with pixels weighed by `noise`."""
    return make_region_model(model.simulator, noise, model.targets, model.engine)


def exit_vector(
    model: RegionsModel,
    point: Float[np.ndarray, " point"],
    begins: Int[np.ndarray, " chains"] | None = None,
) -> Float[np.ndarray, " parameters"]:
    """Imaging parameters of a region at its own exit plane, the mean shift in A0; `begins` as for
    the sites."""
    layout = model.layout
    first, last = model.sites.extent(np.rint(point[layout.counts]), begins)
    surplus = (model.sites.stack - int(last)) * model.columns.slice_nm
    vector = moved_plane(point[layout.imaging], -surplus)
    vector[INDEX["thickness"]] = int(last) - int(first)
    shift = point[layout.shifts].reshape(-1, 2).mean(axis=0)
    vector[[INDEX["A0_x"], INDEX["A0_y"]]] += shift
    return vector
