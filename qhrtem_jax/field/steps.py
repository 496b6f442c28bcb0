"""Gauss-Newton steps of a field's joint refinement over the whole field at once.

Sweeps end where the regions' own pixels are explained by their own atoms; these steps use what
atoms do to the pixels of the neighbours too, and lower the objective itself. They matter where
columns lie close to the edges of regions.
"""

import dataclasses
import logging
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, JointState, free_coordinates
from qhrtem_jax.field.simulate import DAMPING, difference, note_fit, objective, whole_field
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.damping import Descent, Marquardt, begin, descend
from qhrtem_jax.refine.whole_field import Eliminated, gauss_newton

log = logging.getLogger(__name__)

STRONGEST = 1.0
"""The strongest damping that a phase begins with."""

RULE = Marquardt(ease=10.0, tighten=30.0, least=1e-6)

TRIALS, PRODUCTS = 4, 12
"""Steps at a time, and products with the field's Jacobian in each."""

PROMISING, LEAST = 5.0, 2.5
"""Steps are worth their time where one product alone promises to lower chi-square by so much per
region, and end when they lower it by less than that; where the model misses by more than the noise,
in units of what it misses by."""

Step = Callable[
    [Float[np.ndarray, "regions point"], float, int], tuple[Float[np.ndarray, "regions p"], float]
]
"""From points, damping and products to (a step in the unit cube, what it promises)."""


def polish(
    model: FieldModel, state: JointState, journal: Journal, phase: str, value: float
) -> tuple[JointState, bool]:
    """Steps of what the last sweep left free, from its normal equations: (state, whether points
    moved). `value`: the objective at present."""
    step, coordinates = _stepper(model, state, journal), free_coordinates(model, state).coordinates
    worth = len(state.points) * max(1.0, value / model.targets.size)
    damping = min(state.damping, STRONGEST)
    if step(state.points, damping, 1)[1] < PROMISING * worth:
        # what failed then need not fail again
        return dataclasses.replace(state, damping=max(damping / 10.0, DAMPING)), False

    def propose(here: JointState, damping: float) -> tuple[JointState, float, float]:
        move, _ = step(here.points, damping, PRODUCTS)
        trial = dataclasses.replace(here, points=coordinates.step(here.points, move))
        found = objective(model, trial, journal)
        log.debug("%s: chi-square %.1f", phase, found)
        return trial, found, np.inf

    def go_on(steps: Descent[JointState]) -> bool:
        helps = steps.refused == 0 and steps.fall >= LEAST * worth
        return steps.tried < TRIALS and (steps.accepted == 0 or helps)

    done = descend(begin(state, value, damping), propose, RULE, go_on)
    state = dataclasses.replace(done.best, damping=done.damping)
    note_fit(model, difference(model, state, journal), journal, phase)
    return state, done.accepted > 0


def _stepper(model: FieldModel, state: JointState, journal: Journal) -> Step:
    """Steps in the field as `state` places it, preconditioned by its normal equations."""
    system, dtype = state.normal_equations, model.dtype
    field, coordinates = whole_field(model, state), free_coordinates(model, state).coordinates
    own_diagonal, shared_diagonal = system.diagonals()
    active = jnp.asarray(system.active), jnp.asarray(system.shared_active)

    def step(points: np.ndarray, damping: float, products: int) -> tuple[np.ndarray, float]:
        (own, shared), gain = gauss_newton(
            field,
            coordinates,
            jnp.asarray(points, dtype),
            Eliminated(*(jnp.asarray(a, dtype) for a in system.eliminated(damping))),
            (
                jnp.asarray(damping * own_diagonal, dtype),
                jnp.asarray(damping * shared_diagonal, dtype),
            ),
            active,
            jnp.int32(products),
        )
        journal.count(gradients=products + 1)
        shared = np.broadcast_to(shared, (len(own), len(shared)))
        return np.concatenate([own, shared], axis=1, dtype=float), float(gain)

    return step
