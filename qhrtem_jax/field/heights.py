"""Heights of single regions, tried a repeating unit lower and higher.

The C1 that a region has alone says its height, but neighbours that reach into its pixels, and
numbers of atoms that trade against C1, may put it off by a whole unit; from there no step of the
parameters that all regions share leads back. Such a region is missed by more than the others are.
"""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import C1, objective, residuals, snapped, stack_of
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
        for k in suspects[np.argsort(-chi2[suspects])]:
            state = _better_height(model, state, journal, int(k), fixed)
        if state is here:
            break
    return state, state is not before


def _better_height(
    model: FieldModel, state: JointState, journal: Journal, k: int, fixed: Fixed
) -> JointState:
    """The state with region `k` a unit deeper or higher, where that is better than where it stands,
    its own parameters at their best at either height."""
    trials = [
        (0, state),
        *((units, at_other_height(model, state, [k], units)) for units in (1, -1)),
    ]
    found = []
    for units, trial in trials:
        for _ in range(ROUNDS):
            trial = _fitted_alone(model, trial, k, journal, fixed)
        found.append((objective(model, trial, journal), units, trial))
    here, (value, units, best) = found[0][0], min(found, key=lambda one: one[0])
    if units == 0 or value > here - LEAST_GAIN:
        return state
    name = model.problem.regions[k].name
    log.info("%s: %+d repeating units, chi-square %.1f after %.1f", name, units, value, here)
    return best


def at_other_height(
    model: FieldModel, state: JointState, regions: list[int], units: int
) -> JointState:
    """Some regions so many units deeper; if all, that is another C1."""
    points = snapped(model, state)
    points[regions, C1] -= units * model.unit_nm
    return dataclasses.replace(state, points=points, stack=stack_of(model, points, state.stack))


def _fitted_alone(
    model: FieldModel, state: JointState, k: int, journal: Journal, fixed: Fixed
) -> JointState:
    """The own parameters of region `k` at their best for its pixels, all others held."""
    alone = slice(k, k + 1)
    targets, _ = deferred_targets(model, state, journal, alone)
    coordinates, own = model.joint.coordinates, model.joint.own
    active = np.zeros((1, len(coordinates.free)), dtype=bool)
    active[:, :own] = active_coordinates(model, model.joint, fixed[alone])
    found = pooled_fit(
        state.weights.fit,
        coordinates,
        len(coordinates.free),
        state.points[alone],
        targets,
        active,
        iterations=ITERATIONS,
    )
    journal.count(evaluations=found.jacobians, gradients=found.jacobians)
    points = state.points.copy()
    points[alone] = found.points
    return dataclasses.replace(state, points=points)
