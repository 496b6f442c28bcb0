"""Heights of single regions, tried a repeating unit lower and higher.

The C1 that a region has alone says its height, but neighbours that reach into its pixels, and
numbers of atoms that trade against C1, may put it off by a whole unit; from there no step of the
parameters that all regions share leads back. Such a region is missed by more than the others are.
"""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.field.layout import apart
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import (
    C1,
    objective,
    region_objectives,
    residuals,
    snapped,
    stack_of,
)
from qhrtem_jax.field.sweep import Fixed, active_coordinates, deferred_targets
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.pooled import pooled_fit
from qhrtem_jax.refine.whole_field import SHIFT, TILT

log = logging.getLogger(__name__)

SUSPECT = 1.1
"""Regions whose chi-square exceeds the median by this factor are tried."""

PASSES = 3
"""Over all regions that are missed, at most."""

LEAST_GAIN = 5.0
"""Another height must lower the objective by more."""

ROUNDS, ITERATIONS = 2, 6
"""So often a region that was moved is fitted alone to what its neighbours leave of its pixels, and
by so many steps."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A repeating unit or more deeper, `units` of them: regions as a whole, or only some `columns`
    of each."""

    units: int
    columns: tuple[int, ...] | None = None


def better_heights(
    model: FieldModel, state: JointState, journal: Journal, fixed: Fixed
) -> tuple[JointState, bool]:
    """(the state with regions at heights that explain more of the image, whether some moved), with
    numbers relaxed but for the `fixed` ones. The heights of a state are settled."""
    before = state
    for _ in range(PASSES):  # a region at a wrong height hides that its neighbours are
        here = state
        chi2 = np.sum(residuals(model, state, journal) ** 2, axis=1)
        suspects = np.flatnonzero(chi2 > SUSPECT * np.median(chi2))
        suspects = suspects[np.argsort(-chi2[suspects])]
        for group in apart(model.cells.reach, suspects):
            state = _at_better_heights(model, state, journal, np.array(group), fixed)
        if state is here:
            break
    return state, state is not before


def _at_better_heights(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    regions: Int[np.ndarray, " some"],
    fixed: Fixed,
) -> JointState:
    """The state with each of some regions, of which none sees two, a unit deeper or higher where
    that is better than where it stands, its own parameters at their best at each height."""
    found, near = [], model.cells.reach[:, regions]
    for units in (0, 1, -1):
        trial = at_other_height(model, state, regions.tolist(), Move(units)) if units else state
        for _ in range(ROUNDS):
            trial = _fitted_alone(model, trial, regions, journal, fixed)
        found.append((trial, region_objectives(model, trial, journal) @ near))
    (stays, here), *moved = found
    values = np.array([values for _, values in moved])
    best, gains = np.argmin(values, axis=0), here - np.min(values, axis=0)
    better = np.flatnonzero(gains > LEAST_GAIN)
    if not better.size:
        return state
    better = better[np.argsort(-gains[better])]
    value = objective(model, stays, journal)
    # all that promise to be better, or else one by one
    for some in [better] if len(better) == 1 else [better, *better[:, None]]:
        points = snapped(model, stays)
        for k in some:
            points[regions[k]] = moved[best[k]][0].points[regions[k]]
        trial = dataclasses.replace(
            state, points=points, stack=stack_of(model, points, state.stack)
        )
        after = objective(model, trial, journal)
        names = ", ".join(model.problem.regions[k].name for k in regions[some])
        log.info("%s at other heights: chi-square %.1f after %.1f", names, after, value)
        if after < value - LEAST_GAIN:
            return trial
    return state


def at_other_height(
    model: FieldModel, state: JointState, regions: list[int], move: Move
) -> JointState:
    """Some regions elsewhere along the beam; if all of them as a whole, that is another C1."""
    moved = moved_along(model, state, snapped(model, state), regions, move)
    return dataclasses.replace(moved, stack=stack_of(model, moved.points, moved.stack))


def moved_within(
    model: FieldModel,
    state: JointState,
    points: Float[np.ndarray, "regions point"],
    regions: list[int],
    move: Move,
) -> JointState:
    """The same in the stack as it is, which has to have room; `points` of the state are snapped."""
    moved = moved_along(model, state, points, regions, move)
    units = np.rint((points[:, C1] - moved.points[:, C1]) / model.unit_nm).astype(int)
    stack = dataclasses.replace(moved.stack, heights=state.stack.heights + units)
    return dataclasses.replace(moved, stack=stack)


def moved_along(
    model: FieldModel,
    state: JointState,
    points: Float[np.ndarray, "regions point"],
    regions: list[int],
    move: Move,
) -> JointState:
    """`at_other_height` but for the heights in the stack, which follow from C1; `points` of the
    state are snapped."""
    points, begins = points.copy(), state.stack.begins.copy()
    begins[regions], deeper = moved_begins(model, begins[regions], move)
    points[regions, C1] -= deeper * model.unit_nm
    if move.columns is not None:  # the other columns stay where they are across the beam, too
        rows = np.array(regions, dtype=int)[:, None]
        points[rows, SHIFT] += deeper[:, None] * model.unit_nm * 1e-3 * points[rows, TILT]
    stack = dataclasses.replace(state.stack, begins=begins)
    return dataclasses.replace(state, points=points, stack=stack)


def moved_begins(
    model: FieldModel, begins: Int[np.ndarray, "some chains"], move: Move
) -> tuple[Int[np.ndarray, "some chains"], Int[np.ndarray, " some"]]:
    """(ranks of the chains' first atoms of some moved regions, by how many units these are deeper):
    a region begins where its first column does."""
    chains = np.array([chain.column for chain in model.columns.chains])
    moves = np.ones(chains.shape, bool) if move.columns is None else np.isin(chains, move.columns)
    begins = begins + move.units * np.where(moves, model.per_cell, 0)
    deeper = np.min(begins // model.per_cell, axis=1)
    return begins - deeper[:, None] * model.per_cell, deeper


def _fitted_alone(
    model: FieldModel,
    state: JointState,
    regions: Int[np.ndarray, " some"],
    journal: Journal,
    fixed: Fixed,
) -> JointState:
    """The own parameters of some regions at their best for the pixels of each, all else held."""
    targets, _ = deferred_targets(model, state, journal, regions)
    coordinates, own = model.joint.coordinates, model.joint.own
    points = state.points.copy()
    for k, target in zip(regions, targets, strict=True):
        active = np.zeros((1, len(coordinates.free)), dtype=bool)
        active[:, :own] = active_coordinates(model, model.joint, fixed[[k]])
        found = pooled_fit(
            state.weights.fit,
            coordinates,
            len(coordinates.free),
            state.points[[k]],
            target[None],
            active,
            iterations=ITERATIONS,
        )
        journal.count(evaluations=found.jacobians, gradients=found.jacobians)
        points[k] = found.points[0]
    return dataclasses.replace(state, points=points)
