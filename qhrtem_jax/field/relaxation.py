"""Relaxed numbers of a whole field: regions at the heights that their C1 says, then sweeps, steps
over the whole field, and the cells that no region shows, in turn."""

import dataclasses

import numpy as np

from qhrtem_jax.field.model import FieldModel, JointState, free_coordinates, weights
from qhrtem_jax.field.simulate import like_nearest, objective, snapped, stack_of
from qhrtem_jax.field.steps import polish
from qhrtem_jax.field.sweep import Fixed, explain_unknown, pool, sweep
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integers import fix_surest
from qhrtem_jax.regions.model import RegionState

MOST_SWEEPS, CONVERGED = 10, 0.98
"""Sweeps with relaxed numbers end when the misfit falls by less than 2 %."""

FIRST_STEPS, LATER_STEPS = 20, 6
"""Gradient steps of the unknown cells."""


def relaxed(
    model: FieldModel, state: JointState, regions: RegionState, journal: Journal, fixed: Fixed
) -> JointState:
    """From the relaxed points of `regions` to a joint fit with relaxed numbers."""
    if model.given_noise is not None:
        # whatever is missed at first: weights that a misfit lowers would let priors hold what
        # has to move (they return once all numbers are whole)
        state = dataclasses.replace(state, weights=weights(model, model.given_noise))
    points = regions.relaxed_points.copy()
    stretch = model.layout.mtf_stretch
    points[:, stretch] = points[:, stretch].mean(axis=0)  # one camera
    state = at_heights(model, dataclasses.replace(state, points=points))
    for _ in range(2):
        state = at_heights(model, sweep(model, state, journal, "heights", fixed))
    state = dataclasses.replace(state, settled=True, points=snapped(model, state))
    last = np.inf
    for k in range(MOST_SWEEPS):
        state = explain_unknown(model, state, journal, FIRST_STEPS if k < 2 else LATER_STEPS)
        state = advance(model, state, journal, "relaxed field", fixed)
        value = objective(model, state, journal)
        if k >= 2 and value > CONVERGED * last:
            break
        last = value
    return state


def again(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    phase: str,
    fixed: Fixed,
    times: int = 1,
    *,
    weigh: bool = True,
) -> JointState:
    """Unknown cells and regions fitted again; pixels keep their weights where numbers are `fixed`,
    or where they are not to be weighed."""
    for _ in range(times):
        state = explain_unknown(model, state, journal, LATER_STEPS)
        state = advance(model, state, journal, phase, fixed, weigh=weigh and not fixed.any())
    return state


def at_heights(model: FieldModel, state: JointState) -> JointState:
    """Regions at the heights that their C1 says, unknown cells like the nearest of them."""
    first, unknown = like_nearest(model, state.points)
    stack = stack_of(model, state.points, state.stack)
    return dataclasses.replace(state, stack=stack, first=first, unknown=unknown)


def advance(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    phase: str,
    fixed: Fixed,
    *,
    weigh: bool = True,
) -> JointState:
    """A sweep, kept where it lowers the objective, then steps over the whole field."""
    before = objective(model, state, journal)
    swept = sweep(model, state, journal, phase, fixed, weigh=weigh)
    value = objective(model, swept, journal)
    if swept.weights is state.weights and value > before:
        swept = pool(model, dataclasses.replace(swept, points=state.points), journal, fixed)
        value = before
    polished, moved = polish(model, swept, journal, phase, value)
    return pool(model, polished, journal, fixed) if moved else polished


def surest_numbers(model: FieldModel, state: JointState) -> JointState:
    """The state with whole numbers, in each region the surest first."""
    coordinates, counts = free_coordinates(model, state).coordinates, model.layout.counts
    own, _ = state.normal_equations.covariances()
    at = np.array([coordinates.free.index(k) for k in range(counts.start, counts.stop)])
    width = coordinates.host().width[at]
    points = state.points.copy()
    for point, covariances in zip(points, own, strict=True):
        covariance = covariances[np.ix_(at, at)] * np.outer(width, width)
        # what is held at its bound by the image is sure
        held = ~np.isfinite(np.diagonal(covariance))
        covariance = np.where(np.isfinite(covariance), covariance, 0.0)
        covariance[held, held] = 1e-6
        point[counts] = fix_surest(point[counts], covariance, model.most)
    return dataclasses.replace(state, points=points)
