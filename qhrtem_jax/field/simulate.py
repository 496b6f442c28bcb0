"""A state of the fit as a field: where its regions stand, its image, and what that misses.

Each region's point refers to the end of its own stack, which stands somewhere in that of the field:
C1 says where, up to the one that all regions share.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qhrtem_jax.field.model import (
    FieldModel,
    JointState,
    Stack,
    free_coordinates,
    weights,
    whole_numbers,
)
from qhrtem_jax.inputs.instrument import simulated_as
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.field import FieldState, make_field
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import moved_plane
from qhrtem_jax.refine.unknown_cells import UnknownCells, deviations
from qhrtem_jax.refine.whole_field import Placement, WholeField, simulated, whitened
from qhrtem_jax.regions.model import RegionState

C1 = INDEX["C1"]

LEAST_COUNT = 1e-4
"""Chains with fewer atoms are about to grow; numbers are varied by so much for slopes."""

DAMPING = 1e-3
"""Damping of the first step over the whole field."""


def first_state(model: FieldModel, regions: RegionState) -> JointState:
    """Regions as they were counted one by one, put together; unknown cells like their nearest."""
    points = regions.points
    first, unknown = like_nearest(model, points)
    return JointState(
        points,
        stack_of(model, points, None),
        weights(model, regions.noise),
        first,
        unknown,
        DAMPING,
    )


def like_nearest(
    model: FieldModel, points: Float[np.ndarray, "regions point"]
) -> tuple[Float[np.ndarray, "unknown chains"], UnknownCells]:
    """(numbers of the unknown cells like those of the nearest regions, no change to them)."""
    nearest, layout, dtype = model.cells.nearest_region, model.layout, model.dtype
    numbers = jnp.zeros((len(nearest), layout.chains), dtype)
    shifts = jnp.zeros((len(nearest), layout.columns, 2), dtype)
    return points[nearest][:, layout.counts], UnknownCells(numbers, shifts)


# Heights


def ends_nm(
    c1_nm: Float[np.ndarray, " regions"], step_nm: float, reference_nm: float | None
) -> tuple[float, Float[np.ndarray, " regions"]]:
    """(C1 at the deepest end of all regions' stacks, how far each ends above that).

    Regions that reach deeper have smaller C1; these are taken to differ by multiples of `step_nm`
    (0: by anything) from `reference_nm`, or from their circular mean.
    """
    if step_nm == 0.0:
        return float(c1_nm.min()), c1_nm - c1_nm.min()
    zero = reference_nm
    if zero is None:
        phase = np.angle(np.mean(np.exp(2j * np.pi * c1_nm / step_nm)))
        zero = phase / (2.0 * np.pi) * step_nm
    steps = np.rint((c1_nm - zero) / step_nm)
    ends = (steps - steps.min()) * step_nm
    if reference_nm is None:
        return float(np.mean(c1_nm - ends)), ends
    return float(zero + steps.min() * step_nm), ends


def stack_of(
    model: FieldModel, points: Float[np.ndarray, "regions point"], before: Stack | None
) -> Stack:
    """Heights in whole repeating units.

    `before`: a stack whose chains begin where those of this one do, and whose simulator is kept
    where it is as high as it has to be; None: chains begin with the region.
    """
    _, ends = ends_nm(points[:, C1], model.unit_nm, None)
    heights = np.rint((ends.max() - ends) / model.unit_nm).astype(int)
    stack = int(heights.max()) + model.region_units
    if before is not None and before.units == stack:
        return dataclasses.replace(before, heights=heights)
    flat = np.zeros((len(points), model.layout.chains), dtype=int)
    return stack_at(model, heights, flat if before is None else before.begins, stack)


def stack_at(
    model: FieldModel,
    heights: Int[np.ndarray, " regions"],
    begins: Int[np.ndarray, "regions chains"],
    units: int,
) -> Stack:
    """A stack of so many repeating units, with the regions at `heights`."""
    problem, choice = model.problem, model.regions.choice
    simulator = make_field(
        model.columns,
        model.cells.shape,
        units,
        problem.specimen.microscope,
        problem.field.frame,
        thermal_absorption=problem.settings.specimen.thermal_absorption,
        **simulated_as(problem.settings, choice),
    )
    return Stack(heights, begins, units, simulator)


def above_plane_nm(model: FieldModel, state: JointState) -> Float[np.ndarray, " regions"]:
    """Distance from the end of each region's stack to that of the field's."""
    return (state.stack.units - model.region_units - state.stack.heights) * model.unit_nm


def snapped(model: FieldModel, state: JointState) -> Float[np.ndarray, "regions point"]:
    """Points with C1 as the heights demand."""
    points = state.points.copy()
    points[:, C1] = global_imaging(model, state)[C1] + above_plane_nm(model, state)
    return points


def placement(
    model: FieldModel,
    state: JointState,
    above_nm: Float[np.ndarray, " regions"] | None = None,
) -> Placement:
    """Where the regions and the unknown cells are in the field; `above_nm`: other heights of the
    regions than those of the state."""
    cells, dtype = model.cells, model.dtype
    counts = state.points[:, model.layout.counts]
    ahead = np.where(np.mod(counts, 1.0) < 0.5, LEAST_COUNT, -LEAST_COUNT)
    first = starts(model, state, counts)
    slope = (starts(model, state, np.maximum(counts, 2.0 * LEAST_COUNT) + ahead) - first) / ahead

    def array(values: np.ndarray) -> Array:
        return jnp.asarray(values, dtype)

    return Placement(
        model.layout,
        cells.shape[0] * cells.shape[1],
        jnp.asarray(cells.region_cells),
        jnp.asarray(cells.unknown_cells),
        jnp.asarray(cells.nearest_region),
        array(above_plane_nm(model, state) if above_nm is None else above_nm),
        array(model.drift_nm),
        array(counts),
        array(first),
        array(slope),
        array(np.array([c.occupancy for c in model.columns.chains])),
        array(state.first),
        array(starts_beside(model, state)),
        array(model.most),
        state.unknown,
    )


def starts(
    model: FieldModel, state: JointState, counts: Float[np.ndarray, "*batch regions chains"]
) -> Float[np.ndarray, "*batch regions chains"]:
    """Ranks of the first atoms of chains in the field's stack, with other numbers of atoms."""
    some = np.maximum(counts, 2.0 * LEAST_COUNT)  # an empty chain has no start
    stack = state.stack
    return stack.heights[:, None] * model.per_cell + stack.begins + model.sites.starts(some)


def starts_beside(model: FieldModel, state: JointState) -> Float[np.ndarray, "unknown chains"]:
    """The same of unknown cells, which begin where most columns of their nearest region do."""
    level = state.stack.heights + state.stack.mostly(model.per_cell)
    above = level[model.cells.nearest_region][:, None] * model.per_cell
    return above + model.sites.starts(np.maximum(state.first, 2.0 * LEAST_COUNT))


def with_room(model: FieldModel, state: JointState) -> JointState:
    """The state in a stack of a repeating unit more at either end."""
    stack = state.stack
    higher = stack_at(model, stack.heights + 1, stack.begins, stack.units + 2)
    return dataclasses.replace(state, stack=higher)


def global_imaging(
    model: FieldModel,
    state: JointState,
    above_nm: Float[np.ndarray, " regions"] | None = None,
) -> Float[np.ndarray, " parameters"]:
    """Imaging parameters at the end of the field's stack; `above_nm` as for `placement`."""
    return np.asarray(placement(model, state, above_nm).imaging(jnp.asarray(state.points)), float)


def lattice_offsets(
    model: FieldModel,
    state: JointState,
    above_nm: Float[np.ndarray, " regions"] | None = None,
) -> Float[np.ndarray, "regions 2"]:
    """Shift of each region as a whole against the ideal lattice, in nm; `above_nm` as for
    `placement`."""
    return np.asarray(placement(model, state, above_nm).offsets(jnp.asarray(state.points)), float)


def exits(model: FieldModel, state: JointState) -> Int[np.ndarray, " regions"]:
    """Slice of the field's stack behind which each region ends."""
    last = model.sites.extent(whole_numbers(model, state), state.stack.begins)[1]
    return state.stack.heights * model.columns.slices + last


def plane_vector(model: FieldModel, state: JointState) -> Float[np.ndarray, " parameters"]:
    """Imaging parameters at the lowest exit plane of all regions."""
    columns = model.columns
    surplus = state.stack.units * columns.slices - exits(model, state).max()
    return moved_plane(global_imaging(model, state), -surplus * columns.slice_nm)


# Images


def content(model: FieldModel, state: JointState) -> FieldState:
    """What the whole field is made of."""
    return placement(model, state).state(_points(model, state))


def _points(model: FieldModel, state: JointState) -> Float[Array, "regions point"]:
    return jnp.asarray(state.points, model.dtype)


def image(
    model: FieldModel, state: JointState, journal: Journal
) -> Float[np.ndarray, "field_rows field_cols"]:
    """Simulation of the whole field; kept with the state, which is looked at more than once."""
    if not (state.seen and state.seen[0][0] is model):
        journal.count(evaluations=1)
        found = np.asarray(simulated(whole_field(model, state), _points(model, state)), float)
        found.setflags(write=False)
        state.seen[:] = [(model, found)]
    return state.seen[0][1]


def cut(
    model: FieldModel, field: Float[np.ndarray, "field_rows field_cols"]
) -> Float[np.ndarray, "regions rows cols"]:
    """The regions of an image of the field."""
    rows, cols = model.targets.shape[1:]
    return np.array([field[r : r + rows, c : c + cols] for r, c in model.corners])


def difference(
    model: FieldModel, state: JointState, journal: Journal
) -> Float[np.ndarray, "regions rows cols"]:
    """Regions in the simulation of the field, less the experiment."""
    return cut(model, image(model, state, journal)) - model.targets


def note_fit(
    model: FieldModel, missed: Float[np.ndarray, "regions rows cols"], journal: Journal, phase: str
) -> None:
    """Note a step by what its fit misses of the regions."""
    shown = model.targets, model.targets + missed
    journal.note(phase, float(np.mean(missed**2)), picture=lambda: shown)


def residuals(
    model: FieldModel, state: JointState, journal: Journal
) -> Float[np.ndarray, "regions pixels"]:
    """Whitened residuals of the regions in the simulation of the field."""
    missed = jnp.asarray(difference(model, state, journal), model.dtype)
    return np.asarray(whitened(state.weights.fit.likelihood, missed), float)


def whole_field(model: FieldModel, state: JointState) -> WholeField:
    """Whitened residuals of the regions as a function of their points."""
    return WholeField(
        state.stack.simulator,
        placement(model, state),
        state.weights.fit.likelihood,
        jnp.asarray(model.targets, model.dtype),
        model.corners,
    )


def objective(model: FieldModel, state: JointState, journal: Journal) -> float:
    """What is minimised: whitened misfit of the regions in the simulation of the field, with the
    priors of their own parameters, of unknown cells and, where all are whole, of their numbers."""
    regions = np.sum(region_objectives(model, state, journal))
    return float(regions) + _common_priors(model, state)


def region_objectives(
    model: FieldModel, state: JointState, journal: Journal
) -> Float[np.ndarray, " regions"]:
    """What each region has for itself in the objective."""
    misfit = np.sum(residuals(model, state, journal) ** 2, axis=1)
    return misfit + _own_priors(model, state)


def _own_priors(model: FieldModel, state: JointState) -> Float[np.ndarray, " regions"]:
    """What is known of the regions of a state besides the image, in the objective."""
    free = free_coordinates(model, state)
    pulls = free.coordinates.pull(free.coordinates.to_unit(state.points))[:, : free.own]
    counts = whole_numbers(model, state)
    whole = np.all(np.abs(counts - state.points[:, model.layout.counts]) < 1e-3, axis=1)
    unlikely = np.where(whole, model.constraints.penalty(counts, state.stack.begins), 0.0)
    return np.sum(pulls**2, axis=1) + unlikely


def _common_priors(model: FieldModel, state: JointState) -> float:
    """The same of what regions share, and of unknown cells."""
    free = free_coordinates(model, state)
    pulls = free.coordinates.pull(free.coordinates.to_unit(state.points[:1]))[0, free.own :]
    unknown = deviations(state.unknown, model.per_cell)
    shifts = np.asarray(state.unknown.shifts, float)
    return float(np.sum(pulls**2) + np.sum(unknown**2) + np.sum(shifts**2))


def whole_objective(model: FieldModel, state: JointState, journal: Journal) -> float:
    """`objective`, with the whitened misfit of the pixels of no region: by it states are compared
    whose unknown cells have been fitted to the whole image."""
    found, (rows, cols) = image(model, state, journal), model.targets.shape[1:]
    regions = state.weights.fit.likelihood.whiten(
        jnp.asarray(cut(model, found) - model.targets, model.dtype)
    )
    missed = jnp.asarray(found - model.problem.field.image, model.dtype)
    outside = np.array(state.weights.whole.whiten(missed), float)
    for r, c in model.corners:
        outside[r : r + rows, c : c + cols] = 0.0
    inside = np.asarray(regions, float)
    priors = float(np.sum(_own_priors(model, state))) + _common_priors(model, state)
    return float(np.sum(inside**2) + np.sum(outside**2)) + priors
