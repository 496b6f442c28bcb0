"""Whole numbers of atoms: from relaxed ones, by search, and how probable each is.

Bootstrapping fixes relaxed numbers one by one, the surest first, and conditions the others on each
(Teunissen, J. Geodesy 72, 606, 1998: integers of satellite ranging). A search over single, paired,
combined and degenerate changes then certifies the result, and its candidates carry the
probabilities.
"""

import dataclasses
import heapq
import itertools

import numpy as np

from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.physics.scattering import atomic_number

REACH = 2
"""Single changes go this far to either side."""


def fix_surest(
    numbers: np.ndarray,
    covariance: np.ndarray,
    most: np.ndarray,
    log_odds: float,
    at_most: int | None = None,
) -> np.ndarray:
    """Whole numbers for those whose odds against the next number exceed exp(log_odds), else NaN;
    `at_most` so many, the surest.

    **Arguments:** `numbers` (n,), relaxed; `covariance` (n, n); `most` (n,), largest numbers.
    """
    mean, covariance = numbers.astype(float).copy(), covariance.astype(float).copy()
    fixed = np.full(len(mean), np.nan)
    left = list(range(len(mean)))
    end = 0 if at_most is None else max(len(mean) - at_most, 0)
    while len(left) > end:
        variance = np.maximum(np.diagonal(covariance)[left], 1e-8)
        nearest = np.clip(np.rint(mean[left]), 0, most[left])
        odds = (1.0 - 2.0 * np.abs(mean[left] - nearest)) / (2.0 * variance)
        best = int(np.argmax(odds))
        if odds[best] < log_odds:
            break
        k = left.pop(best)
        fixed[k] = nearest[best]
        spread = max(covariance[k, k], 1e-8)
        mean = mean + covariance[:, k] / spread * (fixed[k] - mean[k])
        covariance = covariance - np.outer(covariance[:, k], covariance[k]) / spread
    return fixed


def isolated_surface_atom(sites: Sites, counts: np.ndarray) -> np.ndarray:
    """Whether a surface ends with a single atom in its last two slices, (...,) for whole `counts`.

    The paper calls a single atom across two consecutive slices energetically unfavourable
    (section 4.2); it is looked for at the face where chains end, and at both if they are centred.
    """
    atoms = sites.per_slice(counts)
    first, last = sites.extent(counts)
    index = np.arange(sites.stack)
    at_exit = (index >= (last - 2)[..., None]) & (index < last[..., None])
    at_entrance = (index >= first[..., None]) & (index < (first + 2)[..., None])
    alone = np.zeros(np.shape(first), dtype=bool)
    if sites.fill in ("entrance", "centre"):
        alone |= np.sum(atoms * at_exit, axis=-1) == 1
    if sites.fill in ("exit", "centre"):
        alone |= np.sum(atoms * at_entrance, axis=-1) == 1
    return alone


REJECTED = 1e6
"""Chi-square that the surface rule adds to an isolated surface atom: no image outweighs it."""

UNLIKELY = 9.0
"""The same where an image may outweigh it, with three standard deviations of evidence."""


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Which numbers of atoms are possible (within the sites, not empty), and which are unlikely."""

    sites: Sites
    most: np.ndarray
    isolated: float  # chi-square that an isolated surface atom costs; 0 without the surface rule
    per_cell: np.ndarray  # atoms of each chain in one cell
    roughness: float | None = None  # std, in cells, of the lengths of chains side by side

    def allow(self, counts: np.ndarray) -> np.ndarray:
        """(...,) bool for whole `counts` (..., chains)."""
        inside = np.all((counts >= 0) & (counts <= self.most), axis=-1)
        return inside & np.any(counts > 0, axis=-1)

    def penalty(self, counts: np.ndarray) -> np.ndarray:
        """What surface rule and roughness add to chi-square, (...,) for `counts` (..., chains)."""
        total = np.zeros(np.shape(counts)[:-1])
        if self.isolated:
            total = total + self.isolated * isolated_surface_atom(self.sites, counts)
        if self.roughness is not None:
            length = counts / self.per_cell
            rough = np.square(length - length.mean(axis=-1, keepdims=True)).sum(axis=-1)
            total = total + rough / self.roughness**2
        return total

    def repair(self, counts: np.ndarray) -> np.ndarray:
        """The nearest possible numbers (chains,) that removing isolated atoms leads to."""
        counts = np.clip(np.rint(counts), 0, self.most)
        while self.isolated and counts.sum() > 1 and isolated_surface_atom(self.sites, counts):
            taken, per_slice = self.sites.occupied(counts), self.sites.per_slice(counts)
            outermost = taken & (self.sites.rank == counts[self.sites.chain] - 1)
            first, last = self.sites.extent(counts)
            at_exit = per_slice[max(int(last) - 2, 0) : int(last)].sum() == 1
            face = last - 1 if at_exit and self.sites.fill != "exit" else first
            near = np.abs(self.sites.slice - face) + 1e6 * ~outermost
            counts[self.sites.chain[int(np.argmin(near))]] -= 1
        return counts


def single_changes(columns: Columns, counts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers that differ from `counts` in one chain, (k, chains), the same k for all `counts`.

    By up to `REACH`; in a chain that shares its column with another, over all its values, since
    light atoms beside heavy ones are the hardest to count. Values out of range repeat `counts`.
    """
    rows = []
    for k, limit in enumerate(most):
        shared = sum(c.column == columns.chains[k].column for c in columns.chains) > 1
        near = counts[k] + np.arange(-REACH, REACH + 1)
        values = range(int(limit) + 1) if shared else near
        for value in values:
            row = counts.copy()
            if 0 <= value <= limit:
                row[k] = value
            rows.append(row)
    return np.array(rows)


def paired_changes(counts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers that differ from `counts` by one in two chains; (k, chains), within the limits."""
    found = []
    for i, j in itertools.combinations(range(len(most)), 2):
        for first, second in itertools.product((-1, 1), (-1, 1)):
            row = counts.copy()
            row[i] += first
            row[j] += second
            if 0 <= row[i] <= most[i] and 0 <= row[j] <= most[j]:
                found.append(row)
    return np.array(found).reshape(-1, len(most))


MOST_NODES = 20_000
"""The enumeration of whole numbers gives up after so many nodes of its tree."""


def nearest_integers(
    mean: np.ndarray, precision: np.ndarray, most: np.ndarray, number: int
) -> np.ndarray:
    """The `number` vectors of whole numbers in 0..`most` nearest to `mean` in the metric of
    `precision`, (<= number, n), nearest first: the best found within `MOST_NODES`, and none where
    `mean` or `precision` is not finite.

    Enumeration of Schnorr and Euchner (Math. Program. 66, 181, 1994), as for the ambiguities of
    satellite ranging: numbers that trade against each other (light atoms in neighbouring columns)
    are found together, however many they are.
    """
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(precision))):
        return np.zeros((0, len(mean)))
    order = np.argsort(-np.diagonal(np.linalg.inv(precision)))  # the surest at the root, the last
    centre, limit = mean[order], most[order].astype(int)
    factor = np.linalg.cholesky(precision[np.ix_(order, order)]).T
    best: list[tuple[float, tuple[int, ...]]] = []  # heap, the worst first
    offsets = np.zeros(len(mean))
    nodes = 0

    def descend(level: int, cost: float) -> None:
        nonlocal nodes
        if level < 0:
            found = tuple(int(v) for v in np.rint(offsets + centre))
            (heapq.heappush if len(best) < number else heapq.heappushpop)(best, (-cost, found))
            return
        pull = factor[level, level + 1 :] @ offsets[level + 1 :] / factor[level, level]
        values = np.arange(limit[level] + 1)
        added = (factor[level, level] * (values - centre[level] + pull)) ** 2
        for k in np.argsort(added):
            nodes += 1
            full = len(best) == number and cost + added[k] >= -best[0][0]
            if full or (best and nodes > MOST_NODES):
                return
            offsets[level] = values[k] - centre[level]
            descend(level - 1, cost + float(added[k]))

    descend(len(mean) - 1, 0.0)
    found = np.array([state for _, state in sorted(best, reverse=True)], dtype=float)
    restored = np.empty_like(found)
    restored[:, order] = found
    return restored


def degenerate_changes(columns: Columns, counts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers that differ in two chains of one column: by one in the heavier, to any value in the
    other; (k, chains), the same k for all `counts` (impossible ones repeat `counts`).

    A heavy atom more and a few light ones less scatter nearly alike.
    """
    rows = []
    for i, j in itertools.permutations(range(len(most)), 2):
        a, b = columns.chains[i], columns.chains[j]
        if a.column != b.column or atomic_number(a.symbol) < atomic_number(b.symbol):
            continue
        for step, value in itertools.product((-1, 1), range(int(most[j]) + 1)):
            row = counts.copy()
            if 0 <= counts[i] + step <= most[i]:
                row[i] += step
                row[j] = value
            rows.append(row)
    return np.array(rows).reshape(-1, len(most))


def marginals(counts: np.ndarray, chi2: np.ndarray, floor: float = 1e-4) -> list[dict[int, float]]:
    """Probability of each number of each chain, from states (k, chains) and their objectives."""
    states, first = np.unique(counts, axis=0, return_index=True)
    weight = np.exp(-0.5 * (chi2[first] - np.min(chi2)))
    weight = weight / weight.sum()
    table = []
    for k in range(counts.shape[1]):
        known = {int(n): float(weight[states[:, k] == n].sum()) for n in np.unique(states[:, k])}
        table.append({n: p for n, p in known.items() if p >= floor})
    return table
