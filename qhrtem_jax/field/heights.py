"""Heights of single regions, tried a repeating unit lower and higher.

The C1 that a region has alone says its height, but neighbours that reach into its pixels, and
numbers of atoms that trade against C1, may put it off by a whole unit; from there no step of the
parameters that all regions share leads back. Such a region is missed by more than the others are.
"""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import C1, objective, residuals, snapped, stack_of
from qhrtem_jax.field.sweep import Fixed, active_coordinates, deferred_targets
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.pooled import pooled_fit

log = logging.getLogger(__name__)

SUSPECT = 1.1
"""Regions whose chi-square exceeds the median by this factor are tried."""

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
    chi2, changed = np.sum(residuals(model, state, journal) ** 2, axis=1), False
    suspects = np.flatnonzero(chi2 > SUSPECT * np.median(chi2))
    value = objective(model, state, journal)
    for k in suspects[np.argsort(-chi2[suspects])]:
        for units in (1, -1):
            trial = _moved(model, state, int(k), units)
            for _ in range(ROUNDS):
                trial = _fitted_alone(model, trial, int(k), journal, fixed)
            found = objective(model, trial, journal)
            if found < value - LEAST_GAIN:
                name = model.problem.regions[k].name
                log.info(
                    "%s: %+d repeating units, chi-square %.1f after %.1f", name, units, found, value
                )
                state, value, changed = trial, found, True
                break
    return state, changed


def _moved(model: FieldModel, state: JointState, k: int, units: int) -> JointState:
    """Region `k` so many units deeper."""
    points = snapped(model, state)
    points[k, C1] -= units * model.unit_nm
    return dataclasses.replace(state, points=points, stack=stack_of(model, points, state.stack))


def _fitted_alone(
    model: FieldModel, state: JointState, k: int, journal: Journal, fixed: Fixed
) -> JointState:
    """The own parameters of region `k` at their best for its pixels, all others held."""
    targets, _ = deferred_targets(model, state, journal)
    coordinates, own = model.joint.coordinates, model.joint.own
    active = np.zeros((1, len(coordinates.free)), dtype=bool)
    active[:, :own] = active_coordinates(model, model.joint, fixed[k : k + 1])
    alone: Float[np.ndarray, "regions point"] = state.points[k : k + 1]
    found = pooled_fit(
        state.weights.fit,
        coordinates,
        len(coordinates.free),
        alone,
        targets[k : k + 1],
        active,
        iterations=ITERATIONS,
    )
    journal.count(evaluations=found.jacobians, gradients=found.jacobians)
    points = state.points.copy()
    points[k] = found.points[0]
    return dataclasses.replace(state, points=points)
