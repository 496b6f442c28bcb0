"""Regions at other heights, with the numbers that are best there.

A height trades against numbers of atoms, so that neither alone may be better.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from qhrtem_jax.field.blocks import Block
from qhrtem_jax.field.heights import LEAST_GAIN, at_other_height, points_at_other_height
from qhrtem_jax.field.layout import apart
from qhrtem_jax.field.linear import FieldLinear, Situation, foretold, seen, seen_beside, situation
from qhrtem_jax.field.model import JointState, whole_numbers
from qhrtem_jax.field.search import Search, search_among
from qhrtem_jax.field.simulate import residuals
from qhrtem_jax.field.trials import Proposal, side_by_side, tried, with_numbers
from qhrtem_jax.io.journal import Journal

TRIED = 4
"""So many regions at other heights are simulated one by one, those that promise most."""

LOOKED_AT = 512
"""States of numbers behind each: they only have to say which heights are worth a try."""

UNITS = (1, -1)


def other_heights(
    linear: FieldLinear, state: JointState, journal: Journal, blocks: Sequence[Block]
) -> tuple[JointState, bool]:
    """Regions a repeating unit deeper or higher, one by one or all, with the numbers that are best
    there, as long as the objective falls: (the state, whether heights or numbers changed)."""
    model = linear.model
    present = whole_numbers(model, state)
    # what is tried below may gain by these steps alone, so the present state has them too
    state, value = with_numbers(linear, state, journal, present, "heights")
    before = state
    for _ in range(len(state.points)):
        proposals = _proposals(linear, state, journal, blocks)
        attempts = [[one] for one in proposals[:TRIED]]
        together = side_by_side([p for p in proposals if p.gain > LEAST_GAIN], linear.reach)
        if len(together) > 1:
            attempts.insert(0, together)
        for chosen in attempts:
            found = tried(linear, state, value, journal, chosen, LEAST_GAIN, "heights")
            if found.kept:
                state, value = found.state, found.value
                break
        else:
            break
    same = np.array_equal(whole_numbers(model, state), present)
    same &= np.array_equal(state.stack.heights, before.stack.heights)
    return state, not same


def _proposals(
    linear: FieldLinear, state: JointState, journal: Journal, blocks: Sequence[Block]
) -> list[Proposal]:
    """Each region higher and deeper, and all of them, what promises most first. Where one region
    moves, only numbers that reach into what it reaches are open: others hardly feel it, and the
    search would grow with the square of the field. Regions that none sees two of move in the same
    simulation."""
    model, reach = linear.model, linear.reach
    missed = residuals(model, state, journal)
    unmoved = seen(linear, missed)
    here = situation(linear, state, unmoved, unknown_free=True)
    near = linear.vectors.near
    halo = (near.T.astype(int) @ near) > 0  # whose pixels some of the same atoms reach
    found = []
    for group in apart(reach):
        moved = {
            units: residuals(model, at_other_height(model, state, group, units), journal)
            for units in UNITS
        }
        for k in group:
            opened, mine = np.flatnonzero(halo[k]), np.flatnonzero(reach[:, k])
            for units, other in moved.items():
                points = points_at_other_height(model, state, [k], units)
                alone = dataclasses.replace(state, points=points)
                missing = seen_beside(linear, unmoved, missed, other, mine)
                there = situation(linear, alone, missing, unknown_free=True)
                search = search_among(linear, there, opened)
                best, lower = _best(search)
                changed = np.any(best != search.present, axis=1) | (opened == k)
                gain = here.objective - there.objective + lower
                key = f"{units} {k}".encode()
                found.append(Proposal(opened[changed], best[changed], gain, key, (k,), units))
    every = list(range(len(state.points)))
    for units in UNITS:
        away = at_other_height(model, state, every, units)
        missing = seen(linear, residuals(model, away, journal))
        there = situation(linear, away, missing, unknown_free=True)
        found.append(_all_moved(linear, here, there, blocks, units))
    return sorted(found, key=lambda one: -one.gain)


def _best(search: Search) -> tuple[np.ndarray, float]:
    """(the best numbers, how much lower their objective is than that of the present ones)."""
    states, costs = search.candidates(LOOKED_AT)
    best = int(np.argmin(costs))
    return states[best].reshape(search.present.shape), search.cost - float(costs[best])


def _all_moved(
    linear: FieldLinear, here: Situation, there: Situation, blocks: Sequence[Block], units: int
) -> Proposal:
    """All regions at another height: that is another C1."""
    numbers, rules = there.numbers.copy(), linear.model.constraints
    for block in blocks:
        best, _ = _best(search_among(linear, there, block.opened))
        numbers[block.core] = best[np.searchsorted(block.opened, block.core)]
    gain = here.objective - foretold(linear, there, numbers)
    gain += float(np.sum(rules.penalty(here.numbers)) - np.sum(rules.penalty(numbers)))
    every = np.arange(len(numbers))
    return Proposal(every, numbers, gain, f"{units}".encode(), tuple(every.tolist()), units)
