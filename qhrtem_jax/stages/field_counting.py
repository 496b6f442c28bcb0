"""Finds the numbers of atoms of a field all together, and says how probable they are."""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.refine.counting import LEAST_GAIN
from qhrtem_jax.refine.integer_least_squares import IntegerModel, nearest_integers
from qhrtem_jax.refine.integers import (
    degenerate_changes,
    marginals,
    paired_changes,
    single_changes,
)
from qhrtem_jax.stages.field_fit import LATER_STEPS, FieldFit
from qhrtem_jax.stages.field_linear import FieldLinear

log = logging.getLogger(__name__)

BREADTH = 4096
"""Whole fields of numbers that are looked at around the best relaxed ones, and as many around each
region with its surroundings, for its probabilities."""

REFUSALS = 12
"""The search ends after so many numbers that promised to be better and were not."""

STEPS, SETTLED = 6, 0.2
"""Steps of the other parameters behind a change of numbers end when they lower the objective by
less than this."""

MANY = 0.05
"""Where more than this share of the numbers changes, the field is linearised anew."""


@dataclasses.dataclass(frozen=True)
class FieldCounts:
    """Probabilities of the numbers of each chain of each region, and whether no single, paired or
    degenerate change improves on a region's numbers."""

    tables: list[list[dict[int, float]]]
    certified: np.ndarray

    def probabilities(self, region: int) -> list[dict[int, float]]:
        """Of each number of each chain."""
        return self.tables[region]


def certify(field: FieldFit, fixed: np.ndarray, sweeps: int) -> FieldCounts:
    """Give the field the best numbers that integer least squares finds, as long as the objective
    falls; at most `sweeps` linearisations. `fixed`: which numbers are whole (all)."""
    refused: set[bytes] = set()
    for _ in range(sweeps):
        linear = FieldLinear(field)
        _settle(field, linear, "whole numbers")
        field.explain_unknown(LATER_STEPS)
        while _improve(field, linear, refused):
            pass
        changed = np.rint(field.points[:, field.layout.counts]) != linear.base
        if np.mean(changed) <= MANY:
            break
    _settle(field, linear, "final")
    field.pool(fixed)
    return _compare(field, linear, refused)


def _settle(field: FieldFit, linear: FieldLinear, phase: str) -> float:
    """Steps of everything but the numbers while they help; the objective."""
    objective = field.objective()
    for _ in range(STEPS):
        before = field.points
        linear.move(linear.solve(), np.rint(before[:, field.layout.counts]))
        found = field.objective()
        if not found < objective:
            field.points = before
            break
        gain, objective = objective - found, found
        if gain < SETTLED:
            break
    residual = field.cut(field.image()) - field.targets
    field.journal.note(phase, float(np.mean(residual**2)))
    return objective


def _improve(field: FieldFit, linear: FieldLinear, refused: set[bytes]) -> bool:
    """Try the numbers that promise most, and if these do not lower the objective, changes of one
    region; whether some do. Those that do not are added to `refused`."""
    objective = field.objective()
    solved = linear.solve()
    model = solved.numbers
    shape = linear.base.shape
    present = np.rint(field.points[:, field.layout.counts])
    states, costs = _candidates(field, model, present)
    here = float(_costs(field, model, present[None])[0])
    before, unknown = field.points, field.unknown
    changed = np.any(states.reshape(-1, *shape) != present, axis=2).sum(axis=1)
    failed = False
    for k in np.argsort(costs):
        if costs[k] > here - LEAST_GAIN or len(refused) >= REFUSALS:
            return False
        if states[k].tobytes() in refused or (failed and changed[k] > 1):
            continue
        numbers = states[k].reshape(shape)
        # the first step may overshoot: what counts is where the steps after it end
        linear.move(solved, numbers)
        _settle(field, linear, "whole numbers")
        field.explain_unknown(LATER_STEPS)
        value = _settle(field, linear, "whole numbers")
        log.info(
            "%d numbers changed: chi-square %.1f after %.1f, foretold gain %.1f",
            int(np.sum(numbers != present)),
            value,
            objective,
            here - costs[k],
        )
        if value < objective - LEAST_GAIN:
            return True
        field.points, field.unknown = before, unknown
        failed = True
        refused.add(states[k].tobytes())
    return False


def _candidates(
    field: FieldFit, model: IntegerModel, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(states of the whole field (k, numbers), their objectives) worth a look."""
    here = present.ravel()
    near = nearest_integers(*model.relaxed(here), model.low, model.high, BREADTH)
    costs = _costs(field, model, near.reshape(-1, *present.shape))
    # the search by distance does not know of the constraints; changes one by one do
    starts = [here] if not np.any(np.isfinite(costs)) else [here, near[np.argmin(costs)]]
    ends = [_descend(field, model, start.reshape(present.shape)) for start in starts]
    singles = [_changes_of(field, model, present, k) for k in range(len(present))]
    states = np.concatenate([near, *ends, *singles])
    return states, _costs(field, model, states.reshape(-1, *present.shape))


def _descend(field: FieldFit, model: IntegerModel, state: np.ndarray) -> np.ndarray:
    """Where the best changes of one region at a time lead, (1, numbers)."""
    cost = float(_costs(field, model, state[None])[0])
    while True:
        states = [_changes_of(field, model, state, k) for k in range(len(state))]
        changed = np.concatenate(states).reshape(-1, *state.shape)
        costs = _costs(field, model, changed)
        best = int(np.argmin(costs))
        if not costs[best] < cost - LEAST_GAIN:
            return state.reshape(1, -1)
        state, cost = changed[best], float(costs[best])


def _changes_of(
    field: FieldFit, model: IntegerModel, present: np.ndarray, region: int
) -> np.ndarray:
    """States (k, numbers) with single, paired and degenerate changes in one region."""
    row, most, columns = present[region], field.fit.most, field.columns
    rows = np.concatenate(
        [
            single_changes(columns, row, most),
            paired_changes(row, most),
            degenerate_changes(columns, row, most),
        ]
    )
    mine = slice(region * len(row), (region + 1) * len(row))
    inside = np.all((rows >= model.low[mine]) & (rows <= model.high[mine]), axis=1)
    states = np.tile(present.ravel(), (int(inside.sum()), 1))
    states[:, mine] = rows[inside]
    return states


def _costs(field: FieldFit, model: IntegerModel, states: np.ndarray) -> np.ndarray:
    """Objectives of states (k, regions, chains), infinite for what is not allowed."""
    allowed = np.all(field.constraints.allow(states), axis=1)
    penalty = np.sum(field.constraints.penalty(states), axis=1)
    return np.where(allowed, model(states.reshape(len(states), -1)) + penalty, np.inf)


def _compare(field: FieldFit, linear: FieldLinear, refused: set[bytes]) -> FieldCounts:
    """Probabilities of each region's numbers, those of its surroundings changing with them and
    all further ones as they are; certified where no change of the region's own numbers is better,
    but for those that were `refused`."""
    model = linear.solve().numbers
    present = np.rint(field.points[:, field.layout.counts])
    regions, chains = present.shape
    tables, certified = [], np.zeros(regions, dtype=bool)
    for k in range(regions):
        around = np.flatnonzero(field.cells.near[k] | field.cells.near[:, k])
        chosen = (around[:, None] * chains + np.arange(chains)).ravel()
        part = model.conditional(present.ravel(), chosen)
        here = present[around].ravel()
        found = nearest_integers(*part.relaxed(here), part.low, part.high, BREADTH)
        changes = _changes_of(field, model, present, k)
        open_ones = [c.tobytes() not in refused for c in changes]
        states = np.concatenate([here[None], changes[:, chosen], found])
        costs = _costs(field, part, states.reshape(-1, len(around), chains))
        best = np.min(costs[1 : len(changes) + 1][open_ones], initial=np.inf)
        certified[k] = costs[0] <= best + LEAST_GAIN
        mine = int(np.flatnonzero(around == k)[0]) * chains
        tables.append(marginals(states, costs)[mine : mine + chains])
        field.journal.note(f"certifying, {k + 1} of {regions} regions done")
    return FieldCounts(tables, certified)
