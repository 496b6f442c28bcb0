"""Finds the numbers of atoms of a field all together, and says how probable they are."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from qhrtem_jax.field.blocks import Block
from qhrtem_jax.field.checkpoint import Standing, save
from qhrtem_jax.field.joint import REFINING
from qhrtem_jax.field.linear import (
    FieldLinear,
    at_end,
    linearise,
    situation_of,
)
from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.other_heights import other_heights
from qhrtem_jax.field.relaxation import LATER_STEPS
from qhrtem_jax.field.search import Search, search_among
from qhrtem_jax.field.simulate import whole_objective
from qhrtem_jax.field.sweep import explain_unknown, fixed, pool, refilled, weigh
from qhrtem_jax.field.trials import SETTLED, Proposal, settle, side_by_side, tried
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integers import Belief

REFUSALS = 12
"""Each linearisation is used until so many numbers of a block that promised to be better were
not."""

MANY = 0.1
"""Where more than this share of the numbers has changed, the field is linearised anew."""


@dataclasses.dataclass(frozen=True)
class FieldCounts:
    """What is believed of the numbers of each region (exits in the field's stack); and whether, in
    the linearised field, no single, paired or degenerate change improves on a region's numbers, but
    for those that a simulation has refused."""

    beliefs: list[Belief]
    certified: Bool[np.ndarray, " regions"]


def certify(
    here: Standing, journal: Journal, sweeps: int, blocks: Sequence[Block]
) -> tuple[FieldModel, JointState, FieldCounts]:
    """(the model, with what is known of hidden pixels; the state with the best numbers that integer
    least squares finds, as long as the objective falls; what is believed of them). At most `sweeps`
    linearisations, those of an interrupted run among them. Numbers are looked for in `blocks`."""
    model, state, done = here.model, here.state, here.done
    while True:
        save(Standing(model, state, done), journal)
        done += 1
        model = refilled(model, state, journal)
        linear = linearise(model, state, journal)
        state, _ = settle(linear, state, journal, "whole numbers")
        refused, better = frozenset[bytes](), True
        while better:
            state, better, refused = _improve(linear, state, journal, blocks, refused)
        change = np.abs(whole_numbers(model, state) - linear.base)
        stays = np.mean(change > 0) <= MANY and not at_end(linear, change)
        if done - len(REFINING) >= sweeps:
            break
        if stays:
            state, elsewhere = other_heights(linear, state, journal, blocks)
            if elsewhere:
                continue
        # only what is missed with the best numbers says how pixels are to be weighed
        state = weigh(model, state, journal)
        if stays and state.weights is linear.weights:
            break
    state, _ = settle(linear, state, journal, "final")
    state = pool(model, state, journal, fixed(state, whole=True))
    return model, state, _counts(linear, state, journal, blocks, refused)


def _counts(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    blocks: Sequence[Block],
    refused: frozenset[bytes],
) -> FieldCounts:
    """Each region as the block that answers for it says."""
    here, beliefs = situation_of(linear, state, journal), dict[int, Belief]()
    certified = np.zeros(len(state.points), bool)
    for block in blocks:
        search = search_among(linear, here, block.opened)
        sure = search.certified(refused, SETTLED)
        believed = search.beliefs(state.stack.heights[block.opened])
        for k, at in zip(block.core, np.searchsorted(block.opened, block.core), strict=True):
            beliefs[int(k)], certified[k] = believed[at], sure[at]
    return FieldCounts([beliefs[k] for k in range(len(state.points))], certified)


def _improve(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    blocks: Sequence[Block],
    refused: frozenset[bytes],
) -> tuple[JointState, bool, frozenset[bytes]]:
    """Try the numbers of each block that promise most, and if these do not lower the objective,
    changes of one region: (state, whether some do, `refused` with those that do not)."""
    model = linear.model
    # what is tried below may gain by these steps alone, so the present state has them too
    state = explain_unknown(model, state, journal, LATER_STEPS)
    state, _ = settle(linear, state, journal, "whole numbers")
    value = whole_objective(model, state, journal)
    here = situation_of(linear, state, journal)
    waiting = [iter(_promising(search_among(linear, here, block.opened))) for block in blocks]
    first = [next(queue, None) for queue in waiting]
    failures = [0] * len(blocks)
    while True:
        for b, queue in enumerate(waiting):
            while (one := first[b]) is not None:
                alone = failures[b] == 0 or len(one.regions) == 1
                if alone and one.key not in refused:
                    break
                first[b] = next(queue, None)
            if failures[b] >= REFUSALS:
                first[b] = None
        every = sorted((one for one in first if one is not None), key=lambda one: -one.gain)
        chosen = side_by_side(every, linear.reach)
        if not chosen:
            return state, False, refused
        found = tried(linear, state, value, journal, chosen, SETTLED, "whole numbers")
        refused |= {one.key for one in found.refused}
        if found.kept:
            return found.state, True, refused
        failures = [n + (one in found.refused) for n, one in zip(failures, first, strict=True)]


def _promising(search: Search) -> list[Proposal]:
    """Numbers that are foretold to be better, the best first."""
    states, costs = search.candidates()
    gains = search.cost - costs
    order = np.argsort(costs)
    found = []
    for k in order[gains[order] >= SETTLED]:
        rows = states[k].reshape(search.present.shape)
        changed = np.flatnonzero(np.any(rows != search.present, axis=1))
        regions, key = search.regions[changed], search.key(states[k])
        found.append(Proposal(regions, rows[changed], float(gains[k]), key))
    return found


def search_around(linear: FieldLinear, state: JointState, journal: Journal) -> Search:
    """The search around the numbers of a state, all of them open."""
    every = np.arange(len(state.points))
    return search_among(linear, situation_of(linear, state, journal), every)
