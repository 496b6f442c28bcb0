"""Joint refinement of a whole field: no seams between regions.

Relaxed numbers first, the plane that the crystal begins with, regions that are missed at other
heights; then all numbers are made whole, the surest first.
"""

from qhrtem_jax.field.checkpoint import Standing, restored, save
from qhrtem_jax.field.entrance import best_entrance
from qhrtem_jax.field.heights import better_heights
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.relaxation import again, relaxed, surest_numbers
from qhrtem_jax.field.sweep import fixed, refilled
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.regions.model import RegionState

Both = tuple[FieldModel, JointState]

AGAIN = 3
"""Sweeps after a region has moved to another height."""


def refine(begun: Standing, regions: RegionState, journal: Journal) -> Standing:
    """From the relaxed points of `regions` to a joint fit with whole numbers; the model is another
    where the crystal begins with another plane. Goes on where an interrupted run has stopped."""
    here = restored(begun, journal)
    for step in REFINING[here.done :]:
        save(here, journal)
        model = refilled(here.model, here.state, journal)
        model, state = step(model, here.state, regions, journal)
        here = Standing(model, state, here.done + 1)
    return here


def _relaxed(model: FieldModel, state: JointState, regions: RegionState, journal: Journal) -> Both:
    return model, relaxed(model, state, regions, journal, fixed(state, whole=False))


def _begun(model: FieldModel, state: JointState, regions: RegionState, journal: Journal) -> Both:
    del regions
    return best_entrance(model, state, journal, fixed(state, whole=False))


def _at_heights(
    model: FieldModel, state: JointState, regions: RegionState, journal: Journal
) -> Both:
    del regions
    none = fixed(state, whole=False)
    state, moved = better_heights(model, state, journal, none)
    state = again(model, state, journal, "relaxed field", none, AGAIN if moved else 0)
    return model, surest_numbers(model, state)


def _whole(model: FieldModel, state: JointState, regions: RegionState, journal: Journal) -> Both:
    del regions
    every = fixed(state, whole=True)
    state = again(model, state, journal, "whole numbers", every)
    state, moved = better_heights(model, state, journal, every)
    return model, again(model, state, journal, "whole numbers", every, 1 if moved else 0)


REFINING = (_relaxed, _begun, _at_heights, _whole)
"""Before each of these the fit is kept, so that it can go on from there."""
