"""Other numbers and heights, tried: everything else at its best for them, by simulations.

Changes of regions that do not touch are tried side by side, and what the objective does near each
says which of them to keep: a large field takes hardly more trials than a small one. The objective
of the whole decides in the end.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.field.heights import Move, at_other_height
from qhrtem_jax.field.linear import FieldLinear, Step, best_step, moved
from qhrtem_jax.field.model import JointState, whole_numbers
from qhrtem_jax.field.relaxation import LATER_STEPS
from qhrtem_jax.field.simulate import (
    difference,
    note_fit,
    objective,
    region_objectives,
    whole_objective,
)
from qhrtem_jax.field.sweep import explain_unknown
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.damping import Descent, Halving, begin, descend

log = logging.getLogger(__name__)

STEPS, SETTLED = 6, 0.2
"""Steps of the other parameters end when they lower the objective by less than this; a change of
numbers must lower it by more."""

HALVED = 2
"""So often a step that does not help is halved."""


@dataclasses.dataclass(frozen=True, eq=False)
class Proposal:
    """Other `numbers` of some `regions` (ascending), which the linearised field says to lower the
    objective by `gain`; `key`: tells it from others; `moved`: regions that are elsewhere along the
    beam, by `move`."""

    regions: Int[np.ndarray, " some"]
    numbers: Float[np.ndarray, "some chains"]
    gain: float
    key: bytes
    moved: tuple[int, ...] = ()
    move: Move | None = None


def side_by_side(
    proposals: Sequence[Proposal], near: Bool[np.ndarray, "regions regions"]
) -> list[Proposal]:
    """Those of some proposals, the first ones first, that no region sees two of; `near`: whose
    pixels (first index) see whose atoms."""
    chosen, taken = [], np.zeros(len(near), bool)
    for one in proposals:
        seen = near[:, one.regions].any(axis=1)
        if not np.any(seen & taken):
            chosen.append(one)
            taken |= seen
    return chosen


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A state, its objective (of all pixels), and of proposals, those that it has been given and
    those that have been found no better."""

    state: JointState
    value: float
    kept: list[Proposal]
    refused: list[Proposal]


def tried(
    linear: FieldLinear,
    state: JointState,
    value: float,
    journal: Journal,
    proposals: Sequence[Proposal],
    least: float,
    phase: str,
) -> Outcome:
    """The state, whose objective is `value`, with those of some proposals that lower it by more
    than `least`. They can be tried `side_by_side`, and the first one promises most."""
    refused: list[Proposal] = []
    some = list(proposals)
    while some:
        trial, found = _with(linear, state, journal, some, phase)
        log.info(
            "%s of %d regions: chi-square %.1f after %.1f, foretold gain %.1f",
            phase,
            sum(len(one.regions) for one in some),
            found,
            value,
            sum(one.gain for one in some),
        )
        gains = _gains(linear, state, trial, journal, some) if len(some) > 1 else [np.inf]
        worse = [one for one, gain in zip(some, gains, strict=True) if not gain > least]
        if not worse and found < value - least:
            return Outcome(trial, found, some, refused)
        refused += worse
        if 0 < len(worse) < len(some):
            some = [one for one in some if one not in worse]
        elif len(some) > 1 and not worse:  # together they are no better
            some = some[:1]
        else:
            refused += [] if worse else some
            break
    return Outcome(state, value, [], refused)


def with_numbers(
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


def _with(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    proposals: Sequence[Proposal],
    phase: str,
) -> tuple[JointState, float]:
    numbers = whole_numbers(linear.model, state)
    for one in proposals:
        numbers[one.regions] = one.numbers
        if one.move is not None:
            state = at_other_height(linear.model, state, list(one.moved), one.move)
    return with_numbers(linear, state, journal, numbers, phase)


def _gains(
    linear: FieldLinear,
    state: JointState,
    trial: JointState,
    journal: Journal,
    proposals: Sequence[Proposal],
) -> list[float]:
    """What each of some proposals takes off the objective, in the pixels that see it."""
    before, after = (region_objectives(linear.model, one, journal) for one in (state, trial))
    near = [linear.reach[:, one.regions].any(axis=1) for one in proposals]
    return [float(np.sum((before - after)[seen])) for seen in near]
