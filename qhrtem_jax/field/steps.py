"""Gauss-Newton steps of a field's joint refinement over the whole field at once.

Sweeps end where the regions' own pixels are explained by their own atoms; these steps use what
atoms do to the pixels of the neighbours too, and lower the objective itself. They matter where
columns lie close to the edges of regions.
"""

import logging
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.refine.whole_field import Eliminated, gauss_newton

if TYPE_CHECKING:
    from qhrtem_jax.field.fit import FieldFit

log = logging.getLogger(__name__)

DAMPING, STRONGEST = 1e-3, 1.0
"""Damping of the first step of all, and the strongest that a phase begins with."""

TRIALS, PRODUCTS = 4, 12
"""Steps at a time, and products with the field's Jacobian in each."""

PROMISING, LEAST = 5.0, 2.5
"""Steps are worth their time where one product alone promises to lower chi-square by so much per
region, and end when they lower it by less than that; where the model misses by more than the noise,
in units of what it misses by."""


def polish(field: "FieldFit", phase: str, objective: float) -> bool:
    """Steps of what the last sweep left free, from its normal equations; whether points moved.
    `objective`: that of the present points."""
    assert field.pooled is not None
    system = field.pooled.system
    coordinates, _ = field.coordinates()
    dtype = field.fit.simulator.simulator.dtype
    model = field.whole()
    own_diagonal, shared_diagonal = system.diagonals()

    def step(damping: float, products: int) -> tuple[np.ndarray, float]:
        (own, shared), gain = gauss_newton(
            model,
            coordinates,
            jnp.asarray(field.points, dtype),
            Eliminated(*(jnp.asarray(a, dtype) for a in system.eliminated(damping))),
            (
                jnp.asarray(damping * own_diagonal, dtype),
                jnp.asarray(damping * shared_diagonal, dtype),
            ),
            (jnp.asarray(system.active), jnp.asarray(system.shared_active)),
            jnp.int32(products),
        )
        field.journal.gradient_evaluations += products + 1
        shared = np.broadcast_to(shared, (len(own), len(shared)))
        return np.concatenate([own, shared], axis=1, dtype=float), float(gain)

    gain, worth = 0.0, len(field.points) * max(1.0, objective / field.targets.size)
    field.damping = min(field.damping, STRONGEST)
    if step(field.damping, 1)[1] < PROMISING * worth:
        field.damping = max(field.damping / 10.0, DAMPING)  # what failed then need not fail again
        return False
    for _ in range(TRIALS):
        before = field.points
        moved, _ = step(field.damping, PRODUCTS)
        field.points = coordinates.step(before, moved)
        found = field.objective()
        log.debug("%s: chi-square %.1f after %.1f", phase, found, objective)
        if found < objective:
            gain, objective = objective - found, found
            field.damping = max(field.damping / 10.0, 1e-6)
            if gain < LEAST * worth:
                break
        else:
            field.points = before
            field.damping *= 30.0
            if gain > 0.0:
                break
    residual = field.cut(field.image()) - field.targets
    field.journal.note(phase, float(np.mean(residual**2)))
    return gain > 0.0
