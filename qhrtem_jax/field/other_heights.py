"""Regions at other heights, or with a step in their entrance face, with the numbers that are best
there.

A height trades against numbers of atoms, so that neither alone may be better.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from qhrtem_jax.field.blocks import Block
from qhrtem_jax.field.heights import LEAST_GAIN, Move, at_other_height, moved_along, moved_begins
from qhrtem_jax.field.layout import apart
from qhrtem_jax.field.ledges import ledges, possible, simulated_moves
from qhrtem_jax.field.linear import (
    FieldLinear,
    Situation,
    foretold,
    seen,
    seen_beside,
    situation,
    situation_of,
)
from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.search import Search, search_among
from qhrtem_jax.field.simulate import residuals, snapped
from qhrtem_jax.field.trials import Proposal, side_by_side, tried, with_numbers
from qhrtem_jax.io.journal import Journal

TRIED = 4
"""So many regions at other heights, and so many with a step, are simulated one by one, those that
promise most."""

LOOKED_AT = 512
"""States of numbers behind each: they only have to say which heights are worth a try."""

HEIGHTS = (Move(1), Move(-1))


def other_heights(
    linear: FieldLinear, state: JointState, journal: Journal, blocks: Sequence[Block]
) -> tuple[JointState, bool]:
    """Regions a repeating unit deeper or higher, one by one or all, or some columns of one, with
    the numbers that are best there, as long as the objective falls: (the state, whether heights or
    numbers changed)."""
    model, present = linear.model, whole_numbers(linear.model, state)
    # what is tried below may gain by these steps alone, so the present state has them too
    state, value = with_numbers(linear, state, journal, present, "heights")
    before, beside = state.stack, _beside(linear.reach)
    known, refused = list[Proposal](), set[bytes]()
    stale = np.ones(len(present), dtype=bool)
    for _ in range(len(present)):
        # where nothing near has changed, what was foretold holds but for what all regions share
        known = [one for one in known if not stale[list(one.moved)].any()]
        known += _of_single(linear, state, journal, np.flatnonzero(stale))
        every = known + _of_all(linear, state, journal, blocks)
        for chosen in _attempts([one for one in every if one.key not in refused], linear.reach):
            found = tried(linear, state, value, journal, chosen, LEAST_GAIN, "heights")
            if len(chosen) == 1:  # of several, what the pixels of regions say is not all
                refused |= {one.key for one in found.refused}
            if found.kept:
                break
        else:
            break
        state, value = found.state, found.value
        changed = np.unique(np.concatenate([one.regions for one in found.kept]))
        stale = np.any(beside[:, changed], axis=1)
        refused -= {one.key for one in known if stale[list(one.moved)].any()}
    same = np.array_equal(whole_numbers(model, state), present)
    same &= np.array_equal(state.stack.heights, before.heights)
    same &= np.array_equal(state.stack.begins, before.begins)
    return state, not same


def _attempts(
    proposals: Sequence[Proposal], reach: Bool[np.ndarray, "regions regions"]
) -> list[list[Proposal]]:
    """What is simulated: all that promise something and do not touch, then one after the other
    those that promise most. Of steps, only such as promise something."""
    ordered = sorted(proposals, key=lambda one: -one.gain)
    promising = [one for one in ordered if one.gain > LEAST_GAIN]
    heights = [one for one in ordered if one.move in HEIGHTS][:TRIED]
    steps = [one for one in promising if one.move not in HEIGHTS][:TRIED]
    alone = [[one] for one in ordered if one in heights or one in steps]
    together = side_by_side(promising, reach)
    return [together, *alone] if len(together) > 1 else alone


def _beside(near: Bool[np.ndarray, "regions regions"]) -> Bool[np.ndarray, "regions regions"]:
    """Regions some of whose atoms the same pixels see; `near`: whose pixels see whose atoms."""
    return (near.T.astype(int) @ near) > 0


def _of_single(
    linear: FieldLinear, state: JointState, journal: Journal, regions: Int[np.ndarray, " some"]
) -> list[Proposal]:
    """Some regions, each higher and deeper, or some of its columns; those that none sees two of in
    the same simulation. Where a region moves, only numbers that reach into what it reaches are
    open: others hardly feel it, and the search would grow with the square of the field. Where some
    columns do, those of the region."""
    model, reach, rules = linear.model, linear.reach, linear.model.constraints
    moves, wide = [*HEIGHTS, *ledges(model.columns)], _beside(linear.vectors.near)
    missed, points = residuals(model, state, journal), snapped(model, state)
    unmoved = seen(linear, missed)
    here = situation(linear, state, unmoved, unknown_free=True)
    groups = [np.array(group) for group in apart(reach, regions)]
    trials = [
        (group, move, _possible(model, here, group, move)) for group in groups for move in moves
    ]
    trials = [(group, move, some) for group, move, some in trials if some.size]
    others = simulated_moves(model, state, journal, [(some, move) for _, move, some in trials])
    found = []
    for group, of_group in itertools.groupby(
        zip(trials, others, strict=True), key=lambda one: one[0][0].tolist()
    ):
        moved = [(move, some, other) for (_, move, some), other in of_group]
        for k in group:
            whole, mine = np.flatnonzero(wide[k]), np.flatnonzero(reach[:, k])
            for move, some, other in moved:
                if k not in some:
                    continue
                looked_at = whole if move.columns is None else np.array([k])
                alone = moved_along(model, state, points, [k], move)
                missing = seen_beside(linear, unmoved, missed, other, mine)
                there = situation(linear, alone, missing, unknown_free=True)
                search = search_among(linear, there, looked_at)
                best, lower = _best(search)
                changed = np.any(best != search.present, axis=1) | (looked_at == k)
                added = rules.penalty(here.numbers[k], there.begins[k])
                added -= rules.penalty(here.numbers[k], here.begins[k])
                gain = here.objective - there.objective + lower - float(added)
                key = f"{move} {k}".encode()
                found.append(Proposal(looked_at[changed], best[changed], gain, key, (k,), move))
    return found


def _of_all(
    linear: FieldLinear, state: JointState, journal: Journal, blocks: Sequence[Block]
) -> list[Proposal]:
    """All regions higher, and all deeper."""
    here, every = situation_of(linear, state, journal), list(range(len(state.points)))
    found = []
    for move in HEIGHTS:
        away = at_other_height(linear.model, state, every, move)
        missing = seen(linear, residuals(linear.model, away, journal))
        there = situation(linear, away, missing, unknown_free=True)
        found.append(_all_moved(linear, here, there, blocks, move))
    return found


def _possible(
    model: FieldModel, here: Situation, group: Int[np.ndarray, " some"], move: Move
) -> Int[np.ndarray, " possible"]:
    """Which regions of a group may move so."""
    begins, _ = moved_begins(model, here.begins[group], move)
    rows = zip(here.numbers[group], begins, strict=True)
    return group[[possible(model, counts, first, move) for counts, first in rows]]


def _best(search: Search) -> tuple[np.ndarray, float]:
    """(the best numbers, how much lower their objective is than that of the present ones)."""
    states, costs = search.candidates(LOOKED_AT)
    best = int(np.argmin(costs))
    return states[best].reshape(search.present.shape), search.cost - float(costs[best])


def _all_moved(
    linear: FieldLinear, here: Situation, there: Situation, blocks: Sequence[Block], move: Move
) -> Proposal:
    """All regions at another height: that is another C1."""
    numbers, rules = there.numbers.copy(), linear.model.constraints
    for block in blocks:
        best, _ = _best(search_among(linear, there, block.opened))
        numbers[block.core] = best[np.searchsorted(block.opened, block.core)]
    gain = here.objective - foretold(linear, there, numbers)
    gain += float(np.sum(rules.penalty(here.numbers, here.begins)))
    gain -= float(np.sum(rules.penalty(numbers, there.begins)))
    every = np.arange(len(numbers))
    return Proposal(every, numbers, gain, f"{move}".encode(), tuple(every.tolist()), move)
