"""Heights of single regions, tried a repeating unit lower and higher.

The C1 that a region has alone says its height, but neighbours that reach into its pixels, and
numbers of atoms that trade against C1, may put it off by a whole unit; from there no step of the
parameters that all regions share leads back. Such a region is missed by more than the others are.
"""

import dataclasses
import logging

import numpy as np
from jaxtyping import Int

from qhrtem_jax.field.layout import apart
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import C1, region_objectives, residuals, snapped, stack_of
from qhrtem_jax.field.sweep import Fixed, active_coordinates, deferred_targets
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.pooled import pooled_fit

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
        for group in apart(model.cells.near, suspects):
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
    found, near = [], model.cells.near[:, regions]
    for units in (0, 1, -1):
        trial = at_other_height(model, state, regions.tolist(), units) if units else state
        for _ in range(ROUNDS):
            trial = _fitted_alone(model, trial, regions, journal, fixed)
        values = region_objectives(model, trial, journal)
        found.append((units, trial, values @ near))
    stays, others = found[0], found[1:]
    points, best = snapped(model, state), np.zeros(len(regions), int)
    for units, trial, values in others:
        rivals = np.min([v for u, _, v in others if u != units], axis=0)
        mine = (values < stays[2] - LEAST_GAIN) & (values <= rivals)
        best[mine] = units
        points[regions[mine]] = trial.points[regions[mine]]
    if not best.any():
        return state
    for k, units in zip(regions, best, strict=True):
        if units:
            name = model.problem.regions[k].name
            log.info("%s: %+d repeating units", name, units)
    stack = stack_of(model, points, state.stack)
    return dataclasses.replace(state, points=points, stack=stack)


def at_other_height(
    model: FieldModel, state: JointState, regions: list[int], units: int
) -> JointState:
    """Some regions so many units deeper; if all, that is another C1."""
    points = snapped(model, state)
    points[regions, C1] -= units * model.unit_nm
    return dataclasses.replace(state, points=points, stack=stack_of(model, points, state.stack))


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
    active = np.zeros((len(regions), len(coordinates.free)), dtype=bool)
    active[:, :own] = active_coordinates(model, model.joint, fixed[regions])
    found = pooled_fit(
        state.weights.fit,
        coordinates,
        len(coordinates.free),
        state.points[regions],
        targets,
        active,
        iterations=ITERATIONS,
    )
    journal.count(evaluations=found.jacobians, gradients=found.jacobians)
    points = state.points.copy()
    points[regions] = found.points
    return dataclasses.replace(state, points=points)
