"""Finds the numbers of atoms of a field all together, and says how probable they are."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.field.checkpoint import Standing, save
from qhrtem_jax.field.heights import LEAST_GAIN, at_other_height
from qhrtem_jax.field.joint import REFINING
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
from qhrtem_jax.field.relaxation import LATER_STEPS
from qhrtem_jax.field.search import Search
from qhrtem_jax.field.simulate import difference, note_fit, objective, whole_objective
from qhrtem_jax.field.sweep import explain_unknown, fixed, pool, refilled, weigh
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

TRIED = 4
"""So many regions at other heights are simulated, those that promise most."""

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
    here: Standing, journal: Journal, sweeps: int
) -> tuple[FieldModel, JointState, FieldCounts]:
    """(the model, with what is known of hidden pixels; the state with the best numbers that integer
    least squares finds, as long as the objective falls; what is believed of them). At most `sweeps`
    linearisations, those of an interrupted run among them."""
    model, state, done = here.model, here.state, here.done
    while True:
        save(Standing(model, state, done), journal)
        done += 1
        model = refilled(model, state, journal)
        linear = linearise(model, state, journal)
        state, _ = settle(linear, state, journal, "whole numbers")
        refused, better = frozenset[bytes](), True
        while better:
            state, better, refused = _improve(linear, state, journal, refused)
        change = np.abs(whole_numbers(model, state) - linear.base)
        stays = np.mean(change > 0) <= MANY and not at_end(linear, change)
        if done - len(REFINING) >= sweeps:
            break
        if stays:
            state, elsewhere = other_heights(linear, state, journal)
            if elsewhere:
                continue
        # only what is missed with the best numbers says how pixels are to be weighed
        state = weigh(model, state, journal)
        if stays and state.weights is linear.weights:
            break
    state, _ = settle(linear, state, journal, "final")
    state = pool(model, state, journal, fixed(state, whole=True))
    search = search_around(linear, state, journal)
    return (
        model,
        state,
        FieldCounts(search.beliefs(state.stack.heights), search.certified(refused, SETTLED)),
    )


def settle(
    linear: FieldLinear, state: JointState, journal: Journal, phase: str, *, trial: bool = False
) -> tuple[JointState, float]:
    """Steps of everything but the numbers while they help: (state, its objective); `trial`: it may
    not be taken."""
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
    if trial:
        journal.note(phase)
        return state, value
    note_fit(model, difference(model, state, journal), journal, phase)
    return state, value


def _improve(
    linear: FieldLinear, state: JointState, journal: Journal, refused: frozenset[bytes]
) -> tuple[JointState, bool, frozenset[bytes]]:
    """Try the numbers that promise most, and if these do not lower the objective, changes of one
    region: (state, whether some do, `refused` with those that do not)."""
    model = linear.model
    # what is tried below may gain by these steps alone, so the present state has them too
    state = explain_unknown(model, state, journal, LATER_STEPS)
    state, _ = settle(linear, state, journal, "whole numbers")
    value = whole_objective(model, state, journal)
    search = search_around(linear, state, journal)
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
        trial, found = _with_numbers(linear, state, journal, numbers, "whole numbers")
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


def other_heights(
    linear: FieldLinear, state: JointState, journal: Journal
) -> tuple[JointState, bool]:
    """Regions a repeating unit deeper or higher, one by one or all, with the numbers that are best
    there, as long as the objective falls: (the state, whether heights or numbers changed). A height
    trades against numbers of atoms, so that neither alone may be better."""
    present = whole_numbers(linear.model, state)
    # what is tried below may gain by these steps alone, so the present state has them too
    state, value = _with_numbers(linear, state, journal, present, "heights")
    before = state
    for _ in range(len(state.points)):
        trials = _at_other_heights(linear, state, journal)
        for foretold, regions, trial, numbers in trials[:TRIED]:
            found, ends = _with_numbers(linear, trial, journal, numbers, "heights")
            log.info(
                "region %s, another height: chi-square %.1f after %.1f, foretold %.1f",
                regions,
                ends,
                value,
                foretold,
            )
            if ends < value - LEAST_GAIN:
                state, value = found, ends
                break
        else:
            break
    same = np.array_equal(whole_numbers(linear.model, state), present)
    same &= np.array_equal(state.stack.heights, before.stack.heights)
    return state, not same


def _at_other_heights(
    linear: FieldLinear, state: JointState, journal: Journal
) -> list[tuple[float, list[int], JointState, Float[np.ndarray, "regions chains"]]]:
    """(foretold objective, regions that are moved, the state with these moved, best numbers), what
    promises most first. Where one region moves, only numbers that reach into what it reaches are
    open: others hardly feel it, and the search would grow with the square of the field."""
    found, near = [], linear.model.cells.near
    everywhere = np.arange(len(state.points))
    halo = (near.T.astype(int) @ near) > 0  # whose pixels some of the same atoms reach
    for regions in [*everywhere[:, None], everywhere]:
        opened = np.flatnonzero(halo[regions].any(axis=0))
        for units in (1, -1):
            trial = at_other_height(linear.model, state, regions.tolist(), units)
            search = search_around(linear, trial, journal)
            part = search.beside(opened)
            states, costs = part.candidates()
            best = int(np.argmin(costs))
            numbers = search.present.copy()
            numbers[opened] = states[best].reshape(part.present.shape)
            foretold = search.cost + float(costs[best]) - part.cost
            found.append((foretold, regions.tolist(), trial, numbers))
    return sorted(found, key=lambda one: one[0])


def _with_numbers(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    numbers: Float[np.ndarray, "regions chains"],
    phase: str,
) -> tuple[JointState, float]:
    """(a state with other numbers and everything else at its best for these, its objective with
    all pixels of the image)."""
    # the first step may overshoot: what counts is where the steps after it end
    trial = moved(linear, state, best_step(linear, state, journal, numbers))
    trial, _ = settle(linear, trial, journal, phase, trial=True)
    trial = explain_unknown(linear.model, trial, journal, LATER_STEPS)
    trial, _ = settle(linear, trial, journal, phase, trial=True)
    return trial, whole_objective(linear.model, trial, journal)


def search_around(linear: FieldLinear, state: JointState, journal: Journal) -> Search:
    """The search around the numbers of a state."""
    present = whole_numbers(linear.model, state)
    return Search(linear.model, integer_model(linear, state, journal), present)
