"""Joint refinement of a whole field: no seams between regions.

Relaxed numbers first, the plane that the crystal begins with, regions that are missed at other
heights; then all numbers are made whole, the surest first.
"""

import numpy as np

from qhrtem_jax.field.entrance import best_entrance
from qhrtem_jax.field.heights import better_heights
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.relaxation import again, relaxed, surest_numbers
from qhrtem_jax.field.sweep import Fixed
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.regions.model import RegionState

AGAIN = 3
"""Sweeps after a region has moved to another height."""


def refine(
    model: FieldModel, state: JointState, regions: RegionState, journal: Journal
) -> tuple[FieldModel, JointState, Fixed]:
    """From the relaxed points of `regions` to a joint fit with whole numbers: (the model, in which
    the crystal begins with another plane where that is better, state, which numbers are fixed:
    all)."""
    none = np.zeros((len(state.points), model.layout.chains), dtype=bool)
    state = relaxed(model, state, regions, journal, none)
    model, state = best_entrance(model, state, journal, none)
    state, moved = better_heights(model, state, journal, none)
    state = again(model, state, journal, "relaxed field", none, AGAIN if moved else 0)
    state = surest_numbers(model, state)
    state = again(model, state, journal, "whole numbers", ~none)
    state, moved = better_heights(model, state, journal, ~none)
    state = again(model, state, journal, "whole numbers", ~none, 1 if moved else 0)
    return model, state, ~none
