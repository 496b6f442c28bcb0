"""Search for whole numbers of atoms in a linearised field, and how probable each is."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.field.linear import FieldLinear, Situation, integer_model
from qhrtem_jax.field.model import FieldModel
from qhrtem_jax.refine.counting import LEAST_GAIN
from qhrtem_jax.refine.integer_least_squares import IntegerModel, nearest_integers, probabilities
from qhrtem_jax.refine.integers import (
    Belief,
    degenerate_changes,
    paired_changes,
    shares,
    single_changes,
)

BREADTH = 4096
"""States that are looked at around the best relaxed numbers."""

SWEEPS, COMPETITIVE = 200, 40.0
"""Of the Markov chain for the probabilities, and the objective up to which states give it steps."""


@dataclasses.dataclass(frozen=True)
class Search:
    """Numbers of some regions of a linearised field around the `present` ones, with the constraints
    of regions; `begins`: ranks of the chains' first atoms.

    States are numbers of all chains of all these regions, (n,).
    """

    model: FieldModel
    regions: Int[np.ndarray, " regions"]
    integers: IntegerModel
    present: Float[np.ndarray, "regions chains"]
    begins: Int[np.ndarray, "regions chains"]
    _known: dict[bytes, float] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @functools.cached_property
    def cost(self) -> float:
        """Objective of the present numbers."""
        here = self.present.reshape(1, -1)
        return float(self.integers(here)[0] + self.penalty(here)[0])

    def penalty(self, states: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
        """What constraints add to the objective of states; infinite where not allowed."""
        rows = states.reshape(-1, self.present.shape[1])
        begins = np.tile(self.begins, (len(states), 1))
        return self._penalties(rows, begins).reshape(len(states), -1).sum(axis=1)

    def _penalties(self, rows: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Those of regions' numbers (k, chains), which begin there; kept, since the same come again
        and again."""
        both = np.concatenate([rows, begins], axis=1)
        keys = [row.tobytes() for row in both]
        new = {key: row for key, row in zip(keys, both, strict=True) if key not in self._known}
        if new:
            rules, (some, where) = (
                self.model.constraints,
                np.split(np.array(list(new.values())), 2, 1),
            )
            where = where.astype(int)
            cost, allowed = np.full(len(some), np.inf), rules.allow(some, where)
            cost[allowed] = rules.penalty(some[allowed], where[allowed])
            self._known.update(zip(new, cost.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    def key(self, state: Float[np.ndarray, " n"]) -> bytes:
        """What tells a state from those of other regions."""
        return self.regions.tobytes() + state.tobytes()

    def candidates(
        self, breadth: int = BREADTH
    ) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, " k"]]:
        """(states, their objectives) worth a look, `breadth` of them around the best relaxed
        numbers."""
        here = self.present.ravel()
        prior = np.kron(np.eye(len(self.present)), self.model.constraints.roughness())
        relaxed = self.integers.relaxed(here, prior, -self.begins.ravel())
        limits = self.integers.numbering
        near = nearest_integers(*relaxed, limits.low, limits.high, breadth)
        costs = self.integers(near) + self.penalty(near)
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
                return state[None], self.integers(state[None]) + self.penalty(state[None])
            state = changed[best]

    def _changes(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(states (k, n) with single, paired and degenerate changes in one region, what these add
        to the objective)."""
        slope, chains = self.integers.slope(state), self.present.shape[1]
        found, costs = [], []
        for k in range(len(self.present)):
            mine = np.arange(k * chains, (k + 1) * chains)
            row, part = state[mine], self.integers.conditional(state, mine, slope)
            rows, limits = self._rows(row), part.numbering
            rows = rows[np.all((rows >= limits.low) & (rows <= limits.high), axis=1)]
            at = self.begins[k]
            added = self._penalties(rows, np.tile(at, (len(rows), 1)))
            added = added - self._penalties(row[None], at[None])
            costs.append(part(rows) - part(row[None]) + added)
            states = np.tile(state, (len(rows), 1))
            states[:, mine] = rows
            found.append(states)
        return np.concatenate(found), np.concatenate(costs)

    def _rows(self, row: np.ndarray) -> np.ndarray:
        """A region's numbers after single, paired and degenerate changes."""
        most, columns = self.model.most, self.model.columns
        rows = [
            single_changes(columns, row, most),
            paired_changes(row, most),
            degenerate_changes(columns, row, most),
        ]
        every = np.unique(np.concatenate(rows), axis=0)
        return every[np.any(every != row, axis=1)]

    def certified(self, refused: frozenset[bytes], least: float) -> Bool[np.ndarray, " regions"]:
        """Whether no change of each region's numbers is better by `least`, but for states that are
        `refused`."""
        states, costs = self._changes(self.present.ravel())
        better = np.array([c < -least for c in costs])
        better &= np.array([self.key(s) not in refused for s in states])
        changed = np.any(states.reshape(-1, *self.present.shape) != self.present, axis=2)
        return ~np.any(changed & better[:, None], axis=0)

    def beliefs(self, heights: Int[np.ndarray, " regions"]) -> list[Belief]:
        """Of the numbers of each region, all others open, and of its last slice in the stack of the
        field; `heights` of these regions in that, in repeating units."""
        states, costs = self.candidates()
        here = self.present.ravel()
        order = np.argsort(costs)
        order = order[costs[order] < self.cost + COMPETITIVE][:BREADTH]
        steps = np.unique(states[order] - here, axis=0)
        steps = steps[np.any(steps != 0.0, axis=1)]
        rng = np.random.default_rng(self.model.problem.settings.seed)
        found = probabilities(self.integers, self.penalty, here, steps, SWEEPS, rng)
        tables = found.probability.reshape(*self.present.shape, -1)
        states = found.states.reshape(-1, *self.present.shape)
        exits = self.model.sites.extent(states, self.begins)[1]
        exits = exits + heights * self.model.columns.slices
        alike, numbers = np.full(len(states), 1.0 / len(states)), np.arange(tables.shape[2])
        return [
            Belief([shares(numbers, chain) for chain in region], shares(ends, alike))
            for region, ends in zip(tables, exits.T, strict=True)
        ]


def search_among(linear: FieldLinear, here: Situation, regions: Int[np.ndarray, " some"]) -> Search:
    """The search for the numbers of some regions (ascending) around a situation, all others as they
    are."""
    model, integers = linear.model, integer_model(linear, here, regions)
    return Search(model, regions, integers, here.numbers[regions], here.begins[regions])
