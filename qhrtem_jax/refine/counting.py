"""Search for the whole numbers of atoms of regions, with every nuisance projected out."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.integer_least_squares import at_least, nearest_integers
from qhrtem_jax.refine.integers import (
    Belief,
    Constraints,
    degenerate_changes,
    paired_changes,
    shares,
    single_changes,
    weighed,
)
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.regions import ALL_KNOWN, RegionModel, Shared, Tick, Variations, silent

EXACT = 24
"""So many paired and combined changes, the most promising ones, are simulated; the other pairs are
foretold from the sum of their single changes. Degenerate changes are all simulated."""

NEAREST = 256
"""So many vectors of whole numbers nearest to the relaxed ones are looked at."""

LEAST_GAIN = 1e-2
"""A change must lower chi-square by more than this."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """Result of a search: points with whole numbers; for each region the states that were compared
    and their objectives; whether no single or paired change improves on it."""

    points: Float[np.ndarray, "regions point"]
    objectives: Float[np.ndarray, " regions"]
    states: list[Float[np.ndarray, "_ chains"]]  # as many for each region as were compared
    chi2: list[Float[np.ndarray, " _"]]
    certified: Bool[np.ndarray, " regions"]

    def belief(self, region: int, sites: Sites) -> Belief:
        """What the states that were compared say."""
        states, weight = weighed(self.states[region], self.chi2[region])
        numbers = [shares(column, weight) for column in states.T]
        return Belief(numbers, shares(sites.extent(states)[1], weight))


def search(
    model: RegionModel,
    columns: Columns,
    constraints: Constraints,
    nuisances: Coordinates,
    points: Float[np.ndarray, "regions point"],
    targets: Float[np.ndarray, "regions rows cols"],
    *,
    shared: Shared = ALL_KNOWN,
    passes: int = 8,
    report: Callable[[int], None] = lambda certified: None,
    tick: Tick = silent,
) -> Counted:
    """Improve whole numbers by single, paired, combined and degenerate changes until none helps.

    **Arguments:** `points` with whole numbers; `shared`: what is not known of the imaging
    parameters, at its best for every state that is compared; `report` is told after every pass how
    many regions are certified.
    """
    layout = model.simulator.layout
    regions = len(points)
    unknown = np.ones(len(shared.directions))
    prior = np.diag(np.concatenate([nuisances.host().precision, unknown]))
    method = LevenbergMarquardt(nuisances.prior_mean, nuisances.prior_std, 6, 1e-5)
    points = points.copy()
    objectives = np.full(regions, np.inf)
    states: list[np.ndarray] = [np.zeros((0, layout.chains))] * regions
    chi2: list[np.ndarray] = [np.zeros(0)] * regions
    certified = np.zeros(regions, dtype=bool)
    open_regions = np.arange(regions)
    for _ in range(passes):
        here = points[open_regions]
        counts = np.rint(here[:, layout.counts])
        singles = np.array([single_changes(columns, c, constraints.most) for c in counts])
        arrays = nuisances, here, targets[open_regions]
        effects = model.variations(*arrays, singles, tick, shared)
        pairs, foretold = [], []
        for k, region in enumerate(open_regions):
            evaluate = _Quadratic(effects, k, prior, _pull(nuisances, here[k], shared))
            objectives[region] = evaluate.objective + constraints.penalty(counts[k])
            promising, two, two_cost = _several_at_once(
                _Foretold(evaluate, singles[k], counts[k], constraints)
            )
            degenerate = degenerate_changes(columns, counts[k], constraints.most)
            pairs.append(np.concatenate([promising, degenerate]))
            single = evaluate.single() + constraints.penalty(singles[k])
            foretold.append((singles[k], single, two, two_cost))
        exact = model.variations(*arrays, np.array(pairs), tick, shared)
        moved = []
        for k, region in enumerate(open_regions):
            evaluate = _Quadratic(exact, k, prior, _pull(nuisances, here[k], shared))
            one, one_cost, two, two_cost = foretold[k]
            allowed = constraints.allow(one)
            simulated = np.concatenate([one[allowed], pairs[k]])
            pair_cost = evaluate.single() + constraints.penalty(pairs[k])
            costs = np.concatenate([one_cost[allowed], pair_cost])
            states[region] = np.concatenate([counts[k][None], simulated, two])
            chi2[region] = np.concatenate([[objectives[region]], costs, two_cost])
            best = int(np.argmin(costs)) if len(costs) else -1
            if best >= 0 and costs[best] < objectives[region] - LEAST_GAIN:
                points[region, layout.counts] = simulated[best]
                moved.append(region)
            else:
                certified[region] = True
        report(int(certified.sum()))
        if not moved:
            break
        open_regions = np.array(moved)
        still = points[open_regions], targets[open_regions]
        points[open_regions] = model.fit(nuisances, *still, method, tick)[0]
    return Counted(points, objectives, states, chi2, certified)


def _pull(nuisances: Coordinates, point: np.ndarray, shared: Shared) -> np.ndarray:
    """Half the gradient of the priors at a point, whose imaging parameters are as given."""
    own = nuisances.pull(nuisances.to_unit(point)) / nuisances.host().prior_std
    return np.concatenate([own, np.zeros(len(shared.directions))])


def _several_at_once(foretell: "_Foretold") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the `EXACT` most promising changes of several chains, all other pairs, their objectives)."""
    constraints, counts = foretell.constraints, foretell.counts
    pairs = paired_changes(counts, constraints.most)
    pairs = pairs[constraints.allow(pairs)]
    none = np.zeros(len(counts))
    more = nearest_integers(*foretell.relaxed(), none, constraints.most, NEAREST)
    change = np.abs(more - counts)
    listed = (change.sum(axis=1) <= 2) & (change.max(axis=1, initial=0) <= 1)  # a pair, or nothing
    more = more[constraints.allow(more) & ~listed & (np.sum(change > 0, axis=1) > 1)]
    costs, more_costs = foretell(pairs), foretell(more)
    order = np.argsort(np.concatenate([costs, more_costs]))[:EXACT]
    others = np.setdiff1d(np.arange(len(pairs)), order)
    promising = np.concatenate([pairs, more])[order]
    return _padded(promising, counts), pairs[others], costs[others]


def _padded(rows: np.ndarray, filler: np.ndarray) -> np.ndarray:
    missing = EXACT - len(rows)
    return np.concatenate([rows, np.tile(filler, (missing, 1))]) if missing > 0 else rows


class _Quadratic:
    """Objectives of combinations of changes, with the nuisances at their best for each."""

    def __init__(self, effects: Variations, k: int, prior: np.ndarray, pull: np.ndarray) -> None:
        self.gram, self.slopes = effects.gram[k], effects.slopes[k]
        self.pull = pull
        self.inverse = np.linalg.inv(effects.hessian[k] + prior)

    def of(self, combinations: np.ndarray) -> np.ndarray:
        """`combinations` (n, k + 1): coefficients of the vectors."""
        gradient = combinations @ self.slopes.T + self.pull
        gain = np.sum((gradient @ self.inverse) * gradient, axis=1)
        return np.sum((combinations @ self.gram) * combinations, axis=1) - gain

    def quadratic(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(half the gradient (n,), half the Hessian (n, n)) along `directions` (k + 1, n)."""
        across = self.slopes @ directions
        gradient = self.gram[0] @ directions - (self.slopes[:, 0] + self.pull) @ (
            self.inverse @ across
        )
        hessian = directions.T @ self.gram @ directions - across.T @ self.inverse @ across
        return np.asarray(gradient), 0.5 * np.asarray(hessian + hessian.T)

    @property
    def objective(self) -> float:
        """Of the present numbers."""
        return float(self.of(np.eye(1, len(self.gram)))[0])

    def single(self) -> np.ndarray:
        """Of each change alone, (k,)."""
        count = len(self.gram)
        rows = np.eye(count)[1:]
        rows[:, 0] = 1.0
        return self.of(rows)


class _Foretold:
    """Objectives of whole numbers as the sum of their single changes; infinite where they are
    impossible or further off than single changes go (such states are not proposed)."""

    def __init__(
        self,
        evaluate: _Quadratic,
        singles: np.ndarray,
        counts: np.ndarray,
        constraints: Constraints,
    ) -> None:
        self.evaluate, self.counts, self.constraints = evaluate, counts, constraints
        self.vector = np.zeros((len(counts), int(constraints.most.max()) + 1), dtype=int)
        for k, row in enumerate(singles):
            for chain in np.flatnonzero(row != counts):
                self.vector[chain, int(row[chain])] = k + 1
        self.size = len(singles) + 1

    def __call__(self, states: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(states), self.size))
        allowed = self.constraints.allow(states)
        inside = np.clip(states, 0, self.vector.shape[1] - 1).astype(int)
        which = self.vector[np.arange(states.shape[1]), inside]
        known = np.all((which > 0) | (states == self.counts), axis=1)
        np.put_along_axis(rows, which, 1.0, axis=1)
        rows[:, 0] = 1.0  # the present residual; what has not changed points here too
        costs = self.evaluate.of(rows) + self.constraints.penalty(states)
        return np.where(allowed & known, costs, np.inf)

    def relaxed(self) -> tuple[np.ndarray, np.ndarray]:
        """(best relaxed numbers, their precision), from the effects of one atom more or less."""
        slopes = np.zeros((self.size, len(self.counts)))
        for chain, count in enumerate(self.counts.astype(int)):
            steps = [s for s in (-1, 1) if 0 <= count + s <= self.constraints.most[chain]]
            for step in steps:
                slopes[self.vector[chain, count + step], chain] = step / len(steps)
        gradient, precision = self.evaluate.quadratic(slopes)
        if not np.all(np.isfinite(precision)):
            return self.counts, precision
        precision = at_least(precision, 1.0 / max(self.constraints.most.max(), 1) ** 2)
        return self.counts - np.linalg.solve(precision, gradient), precision
