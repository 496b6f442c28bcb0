"""What stays the same during the fit of columns, and what changes."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.columns import bounds_of
from qhrtem_jax.inputs.parameter_space import SHIFT
from qhrtem_jax.matching.noise import GUESSED_NOISE, NoiseModel
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.columns import sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, moved_plane
from qhrtem_jax.refine.bounds import PointBounds
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.regions import RegionModel, make_region_model
from qhrtem_jax.structure.problem import StructureProblem


@dataclasses.dataclass(frozen=True)
class StructureModel:
    """Everything that is constant during the fit of the columns of one image.

    The wave passes whole cells, so points refer to a plane `surplus_nm` behind the exit face;
    results to the exit face (`exit_vector`).
    """

    problem: StructureProblem
    layout: Layout
    slices: int  # thickness of the specimen
    surplus_nm: float
    choice: GridChoice
    simulator: StructuredSimulator
    bounds: PointBounds
    start: Float[np.ndarray, " point"]
    structure: Coordinates  # shifts, occupancies, camera
    imaging: Coordinates  # free imaging parameters
    everything: Coordinates  # both

    @property
    def mode(self) -> str:
        """How the imaging parameters are treated: `fixed`, `joint` or `alternate`."""
        return self.problem.settings.structure.imaging

    @property
    def image(self) -> Float[np.ndarray, "rows cols"]:
        """What is fitted."""
        return self.problem.experiment.image

    @property
    def fitted_imaging(self) -> list[str]:
        """Imaging parameters that are fitted with the columns."""
        return [] if self.mode == "fixed" else [NAMES[k] for k in self.imaging.free]


@dataclasses.dataclass(frozen=True)
class StructureState:
    """How far the fit has come; `noise` weighs the pixels."""

    point: Float[np.ndarray, " point"]
    noise: NoiseModel = GUESSED_NOISE


def structure_model(
    problem: StructureProblem, vector: Float[np.ndarray, " parameters"]
) -> StructureModel:
    """The model of the columns of an image that was taken with the imaging parameters `vector`."""
    columns, frame = problem.specimen.columns, problem.experiment.frame
    slices = max(1, round(float(vector[INDEX["thickness"]])))
    sites = sites_of(columns, -(-slices // columns.slices))
    surplus_nm = (sites.stack - slices) * columns.slice_nm
    choice = problem.specimen.grids(frame, vector, slices)
    layout = Layout(len(columns.xy), len(columns.chains))
    free = len(NAMES) + 2 * layout.columns + layout.chains
    simulator = problem.specimen.simulator(sites, frame, choice, free)
    start = layout.point(
        moved_plane(vector, surplus_nm),
        np.zeros((layout.columns, 2)),
        columns.numbers_of_slices(slices),
        np.array([chain.occupancy for chain in columns.chains]),
    )
    bounds = _bounds(problem, layout, vector, start)
    structure = bounds.of(layout.shifts) + bounds.of(layout.occupancies) + list(bounds.camera)
    imaging = bounds.indices(bounds.imaging)
    dtype = simulator.dtype
    return StructureModel(
        problem,
        layout,
        slices,
        surplus_nm,
        choice,
        simulator,
        bounds,
        start,
        bounds.coordinates(structure, dtype),
        bounds.coordinates(imaging, dtype),
        bounds.coordinates(imaging + structure, dtype),
    )


def _bounds(
    problem: StructureProblem, layout: Layout, vector: np.ndarray, start: np.ndarray
) -> PointBounds:
    chosen = problem.settings.structure
    bounds = bounds_of(layout, problem.space).with_shifts(chosen.position_std_nm)
    bounds = bounds.with_occupancies(start[layout.occupancies], chosen.occupancy_std)
    for name in (*SHIFT, "C1"):
        # bounds are of the exit face, points of a plane behind it
        bounds = bounds.with_offset(name, float(start[INDEX[name]] - vector[INDEX[name]]))
    for name in SHIFT:  # of a cell that begins elsewhere: as far around where it was found
        low, high = (getattr(bounds, end)[INDEX[name]] for end in ("low", "high"))
        if not low <= start[INDEX[name]] <= high:
            bounds = bounds.with_offset(name, float(start[INDEX[name]] - 0.5 * (low + high)))
    if chosen.imaging != "fixed":  # which says that the camera is known too
        bounds = bounds.with_mtf_stretch(problem.specimen.mtf_scale_std)
    return bounds.with_vector(start)


def fitter(model: StructureModel, noise: NoiseModel) -> RegionModel:
    """Least squares of the image with pixels weighed by `noise`."""
    return make_region_model(model.simulator, noise, model.image[None])


def exit_vector(
    model: StructureModel, point: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " parameters"]:
    """Imaging parameters at the exit face; the mean shift of the columns is in A0."""
    vector = moved_plane(point[model.layout.imaging], -model.surplus_nm)
    vector[INDEX["thickness"]] = model.slices
    if model.mode != "fixed":
        shift = point[model.layout.shifts].reshape(-1, 2).mean(axis=0)
        vector[[INDEX[name] for name in SHIFT]] += shift
    return vector
