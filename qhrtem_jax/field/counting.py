"""Finds the numbers of atoms of a field all together, and says how probable they are."""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.field.fit import LATER_STEPS, FieldFit
from qhrtem_jax.field.linear import FieldLinear
from qhrtem_jax.refine.counting import LEAST_GAIN
from qhrtem_jax.refine.integer_least_squares import IntegerModel, nearest_integers, probabilities
from qhrtem_jax.refine.integers import degenerate_changes, paired_changes, single_changes

log = logging.getLogger(__name__)

BREADTH = 4096
"""Whole fields of numbers that are looked at around the best relaxed ones."""

REFUSALS = 12
"""Each linearisation is used until so many numbers that promised to be better were not."""

STEPS, SETTLED = 6, 0.2
"""Steps of the other parameters end when they lower the objective by less than this; a change of
numbers must lower it by more."""

MANY = 0.1
"""Where more than this share of the numbers has changed, the field is linearised anew."""

SWEEPS, COMPETITIVE = 200, 40.0
"""Of the Markov chain for the probabilities, and the objective up to which states give it steps."""

LEAST_PROBABILITY = 1e-4
"""Less is not reported."""


@dataclasses.dataclass(frozen=True)
class FieldCounts:
    """Probabilities of the numbers of each chain of each region; and whether, in the linearised
    field, no single, paired or degenerate change improves on a region's numbers, but for those that
    a simulation has refused."""

    probabilities: list[list[dict[int, float]]]
    certified: np.ndarray


def certify(field: FieldFit, fixed: np.ndarray, sweeps: int) -> FieldCounts:
    """Give the field the best numbers that integer least squares finds, as long as the objective
    falls; at most `sweeps` linearisations. `fixed`: which numbers are whole (all)."""
    for left in reversed(range(sweeps)):
        linear = FieldLinear(field)
        refused: set[bytes] = set()
        _settle(field, linear, "whole numbers")
        while _improve(field, linear, refused):
            pass
        moved = np.abs(np.rint(field.points[:, field.layout.counts]) - linear.base)
        stays = np.mean(moved > 0) <= MANY and not linear.at_end(moved)
        # only what is missed with the best numbers says how pixels are to be weighed
        if not left or (not field.weigh() and stays):
            break
    _settle(field, linear, "final")
    field.pool(fixed)
    search = _Search(field, linear.model())
    return FieldCounts(search.probabilities(), search.certified(refused))


def _settle(field: FieldFit, linear: FieldLinear, phase: str) -> float:
    """Steps of everything but the numbers while they help; the objective."""
    objective = field.objective()
    for _ in range(STEPS):
        before = field.points
        step = linear.step(np.rint(before[:, field.layout.counts]))
        for share in (1.0, 0.5, 0.25):
            linear.move(step, share)
            found = field.objective()
            if found < objective:
                break
            field.points = before
        if not found < objective:
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
    # what is tried below may gain by these steps alone, so the present state has them too
    field.explain_unknown(LATER_STEPS)
    objective = _settle(field, linear, "whole numbers")
    search = _Search(field, linear.model())
    states, costs = search.candidates()
    before, unknown = field.points, field.unknown
    shape = search.present.shape
    regions = np.any(states.reshape(-1, *shape) != search.present, axis=2).sum(axis=1)
    failed = False
    for k in np.argsort(costs):
        gain = search.cost - costs[k]
        if gain < SETTLED or len(refused) >= REFUSALS:
            return False
        if states[k].tobytes() in refused or (failed and regions[k] > 1):
            continue
        numbers = states[k].reshape(shape)
        step = linear.step(numbers)
        field.points = before.copy()
        field.points[:, field.layout.counts] = numbers
        # the first step may overshoot: what counts is where the steps after it end
        linear.move(step)
        _settle(field, linear, "whole numbers")
        field.explain_unknown(LATER_STEPS)
        value = _settle(field, linear, "whole numbers")
        log.info(
            "%d numbers changed: chi-square %.1f after %.1f, foretold gain %.1f",
            int(np.sum(numbers != search.present)),
            value,
            objective,
            gain,
        )
        if value < objective - SETTLED:
            return True
        field.points, field.unknown = before, unknown
        failed = True
        refused.add(states[k].tobytes())
    return False


class _Search:
    """Numbers (n,) of a linearised field, with the constraints of its regions."""

    def __init__(self, field: FieldFit, model: IntegerModel) -> None:
        self.field, self.model = field, model
        self.present = np.rint(field.points[:, field.layout.counts])
        self.prior = np.kron(np.eye(len(self.present)), field.constraints.roughness())
        self._known: dict[bytes, float] = {}
        here = self.present.reshape(1, -1)
        self.cost = float(model(here)[0] + self.penalty(here)[0])

    def penalty(self, states: np.ndarray) -> np.ndarray:
        """What constraints add to the objective of states (k, n); infinite where not allowed."""
        rows = states.reshape(len(states), *self.present.shape)
        return np.array([sum(self._penalty(row) for row in state) for state in rows])

    def _penalty(self, row: np.ndarray) -> float:
        key = row.tobytes()
        if key not in self._known:
            rules = self.field.constraints
            allowed = bool(rules.allow(row))
            self._known[key] = float(rules.penalty(row[None])[0]) if allowed else np.inf
        return self._known[key]

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """(states of the whole field (k, n), their objectives) worth a look."""
        here = self.present.ravel()
        near = nearest_integers(
            *self.model.relaxed(here, self.prior), self.model.low, self.model.high, BREADTH
        )
        costs = self.model(near) + self.penalty(near)
        # the search by distance does not know all of the constraints; changes one by one do
        starts = [here] if not np.any(np.isfinite(costs)) else [here, near[np.argmin(costs)]]
        more, their_costs = zip(*(self._descend(start) for start in starts), strict=True)
        changes, change_costs = self._changes(here)
        states = np.concatenate([near, *more, changes])
        return states, np.concatenate([costs, *their_costs, self.cost + change_costs])

    def _descend(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(where the best changes of one region at a time lead (1, n), its objective)."""
        while True:
            changed, costs = self._changes(state)
            best = int(np.argmin(costs))
            if not costs[best] < -LEAST_GAIN:
                return state[None], self.model(state[None]) + self.penalty(state[None])
            state = changed[best]

    def _changes(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(states (k, n) with single, paired and degenerate changes in one region, what these add
        to the objective)."""
        slope, chains = self.model.slope(state), self.present.shape[1]
        found, costs = [], []
        for k in range(len(self.present)):
            mine = np.arange(k * chains, (k + 1) * chains)
            row, part = state[mine], self.model.conditional(state, mine, slope)
            rows = self._rows(row)
            rows = rows[np.all((rows >= part.low) & (rows <= part.high), axis=1)]
            penalties = np.array([self._penalty(r) for r in rows])
            costs.append(part(rows) - part(row[None]) + penalties - self._penalty(row))
            states = np.tile(state, (len(rows), 1))
            states[:, mine] = rows
            found.append(states)
        return np.concatenate(found), np.concatenate(costs)

    def _rows(self, row: np.ndarray) -> np.ndarray:
        """A region's numbers after single, paired and degenerate changes."""
        most, columns = self.field.fit.most, self.field.columns
        rows = [
            single_changes(columns, row, most),
            paired_changes(row, most),
            degenerate_changes(columns, row, most),
        ]
        every = np.unique(np.concatenate(rows), axis=0)
        return every[np.any(every != row, axis=1)]

    def certified(self, refused: set[bytes]) -> np.ndarray:
        """Whether no change of each region's numbers is better, but for those `refused`."""
        states, costs = self._changes(self.present.ravel())
        better = np.array([c < -SETTLED for c in costs])
        better &= np.array([s.tobytes() not in refused for s in states])
        changed = np.any(states.reshape(-1, *self.present.shape) != self.present, axis=2)
        return ~np.any(changed & better[:, None], axis=0)

    def probabilities(self) -> list[list[dict[int, float]]]:
        """Of the numbers of each chain of each region, all others open."""
        states, costs = self.candidates()
        here = self.present.ravel()
        order = np.argsort(costs)
        order = order[costs[order] < self.cost + COMPETITIVE][:BREADTH]
        steps = np.unique(states[order] - here, axis=0)
        steps = steps[np.any(steps != 0.0, axis=1)]
        rng = np.random.default_rng(self.field.task.settings.seed)
        found = probabilities(self.model, self.penalty, here, steps, SWEEPS, rng)
        tables = found.reshape(*self.present.shape, -1)
        return [
            [
                {n: float(p) for n, p in enumerate(chain) if p >= LEAST_PROBABILITY}
                for chain in region
            ]
            for region in tables
        ]
