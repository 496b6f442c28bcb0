"""Finds the numbers of atoms of a field all together, and says how probable they are."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool

from qhrtem_jax.field.joint import LATER_STEPS
from qhrtem_jax.field.linear import (
    FieldLinear,
    Step,
    at_end,
    best_step,
    integer_model,
    linearise,
    moved,
)
from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.search import Search
from qhrtem_jax.field.simulate import difference, objective
from qhrtem_jax.field.sweep import Fixed, explain_unknown, pool, weigh
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.damping import Descent, Halving, begin, descend
from qhrtem_jax.refine.integers import Belief

log = logging.getLogger(__name__)

REFUSALS = 12
"""Each linearisation is used until so many numbers that promised to be better were not."""

STEPS, SETTLED = 6, 0.2
"""Steps of the other parameters end when they lower the objective by less than this; a change of
numbers must lower it by more."""

MANY = 0.1
"""Where more than this share of the numbers has changed, the field is linearised anew."""

HALVED = 2
"""So often a step that does not help is halved."""


@dataclasses.dataclass(frozen=True)
class FieldCounts:
    """What is believed of the numbers of each region (exits in the field's stack); and whether, in
    the linearised field, no single, paired or degenerate change improves on a region's numbers, but
    for those that a simulation has refused."""

    beliefs: list[Belief]
    certified: Bool[np.ndarray, " regions"]


def certify(
    model: FieldModel, state: JointState, journal: Journal, fixed: Fixed, sweeps: int
) -> tuple[JointState, FieldCounts]:
    """The best numbers that integer least squares finds, as long as the objective falls; at most
    `sweeps` linearisations. `fixed`: which numbers are whole (all)."""
    while True:
        sweeps -= 1
        linear = linearise(model, state, journal)
        state, _ = settle(linear, state, journal, "whole numbers")
        refused, better = frozenset[bytes](), True
        while better:
            state, better, refused = _improve(linear, state, journal, refused)
        change = np.abs(whole_numbers(model, state) - linear.base)
        stays = np.mean(change > 0) <= MANY and not at_end(linear, change)
        if sweeps <= 0:
            break
        # only what is missed with the best numbers says how pixels are to be weighed
        state = weigh(model, state, journal)
        if stays and state.weights is linear.weights:
            break
    state, _ = settle(linear, state, journal, "final")
    state = pool(model, state, journal, fixed)
    search = _search(linear, state, journal)
    return state, FieldCounts(
        search.beliefs(state.stack.heights), search.certified(refused, SETTLED)
    )


def settle(
    linear: FieldLinear, state: JointState, journal: Journal, phase: str
) -> tuple[JointState, float]:
    """Steps of everything but the numbers while they help: (state, its objective)."""
    model = linear.model
    value = objective(model, state, journal)

    def go_on(now: Descent[JointState]) -> bool:
        return now.accepted == 0 and now.refused <= HALVED

    for _ in range(STEPS):
        step = best_step(linear, state, journal, whole_numbers(model, state))

        def propose(
            best: JointState, share: float, step: Step = step
        ) -> tuple[JointState, float, float]:
            trial = moved(linear, best, step, share)
            return trial, objective(model, trial, journal), 1.0

        found = descend(begin(state, value, 1.0), propose, Halving(), go_on)
        state, value = found.best, found.objective
        if found.fall < SETTLED:
            break
    journal.note(phase, float(np.mean(difference(model, state, journal) ** 2)))
    return state, value


def _improve(
    linear: FieldLinear, state: JointState, journal: Journal, refused: frozenset[bytes]
) -> tuple[JointState, bool, frozenset[bytes]]:
    """Try the numbers that promise most, and if these do not lower the objective, changes of one
    region: (state, whether some do, `refused` with those that do not)."""
    model = linear.model
    # what is tried below may gain by these steps alone, so the present state has them too
    state = explain_unknown(model, state, journal, LATER_STEPS)
    state, value = settle(linear, state, journal, "whole numbers")
    search = _search(linear, state, journal)
    states, costs = search.candidates()
    shape = search.present.shape
    regions = np.any(states.reshape(-1, *shape) != search.present, axis=2).sum(axis=1)
    failed = False
    for k in np.argsort(costs):
        gain = search.cost - costs[k]
        if gain < SETTLED or len(refused) >= REFUSALS:
            break
        if states[k].tobytes() in refused or (failed and regions[k] > 1):
            continue
        numbers = states[k].reshape(shape)
        # the first step may overshoot: what counts is where the steps after it end
        trial = moved(linear, state, best_step(linear, state, journal, numbers))
        trial, _ = settle(linear, trial, journal, "whole numbers")
        trial = explain_unknown(model, trial, journal, LATER_STEPS)
        trial, found = settle(linear, trial, journal, "whole numbers")
        log.info(
            "%d numbers changed: chi-square %.1f after %.1f, foretold gain %.1f",
            int(np.sum(numbers != search.present)),
            found,
            value,
            gain,
        )
        if found < value - SETTLED:
            return trial, True, refused
        failed = True
        refused |= {states[k].tobytes()}
    return state, False, refused


def _search(linear: FieldLinear, state: JointState, journal: Journal) -> Search:
    """The search around the numbers of a state."""
    present = whole_numbers(linear.model, state)
    return Search(linear.model, integer_model(linear, state, journal), present)
