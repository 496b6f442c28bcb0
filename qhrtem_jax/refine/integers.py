"""Whole numbers of atoms: from relaxed ones, by search, and how probable each is.

Bootstrapping fixes relaxed numbers one by one, the surest first, and conditions the others on each
(Teunissen, J. Geodesy 72, 606, 1998: integers of satellite ranging). A search over single, paired
and degenerate changes then certifies the result, and its candidates carry the probabilities.
"""

import dataclasses
import itertools

import numpy as np

from qhrtem_jax.physics.columns import Columns, Sites

REACH = 2
"""Single changes go this far to either side."""


def fix_surest(
    numbers: np.ndarray, covariance: np.ndarray, most: np.ndarray, log_odds: float
) -> np.ndarray:
    """Whole numbers for those whose odds against the next number exceed exp(log_odds), else NaN.

    **Arguments:** `numbers` (n,), relaxed; `covariance` (n, n); `most` (n,), largest numbers.
    """
    mean, covariance = numbers.astype(float).copy(), covariance.astype(float).copy()
    fixed = np.full(len(mean), np.nan)
    left = list(range(len(mean)))
    while left:
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


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Which numbers of atoms are possible: within the sites, not empty, no isolated atom."""

    sites: Sites
    most: np.ndarray
    surface_rule: bool

    def allow(self, counts: np.ndarray) -> np.ndarray:
        """(...,) bool for whole `counts` (..., chains)."""
        possible = np.all((counts >= 0) & (counts <= self.most), axis=-1) & np.any(
            counts > 0, axis=-1
        )
        if self.surface_rule:
            possible &= ~isolated_surface_atom(self.sites, counts)
        return possible

    def repair(self, counts: np.ndarray) -> np.ndarray:
        """The nearest possible numbers (chains,) that removing isolated atoms leads to."""
        counts = np.clip(np.rint(counts), 0, self.most)
        while self.surface_rule and counts.sum() > 1 and isolated_surface_atom(self.sites, counts):
            taken = self.sites.occupied(counts)
            outermost = taken & (self.sites.rank == counts[self.sites.chain] - 1)
            first, last = self.sites.extent(counts)
            face = last - 1 if self.sites.fill != "exit" else first
            near = np.abs(self.sites.slice - face) + 1e6 * ~outermost
            counts[self.sites.chain[int(np.argmin(near))]] -= 1
        return counts


def single_changes(columns: Columns, counts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers that differ from `counts` in one chain, (k, chains), the same k for all `counts`.

    By up to `REACH`; in a chain that shares its column with another, over all its values, since
    light atoms beside heavy ones are the hardest to count. Values out of range repeat `counts`.
    """
    rows = []
    shared = [c.column for c in columns.chains]
    weight = [c.symbol for c in columns.chains]
    for k, limit in enumerate(most):
        partners = [
            j for j in range(len(most)) if shared[j] == shared[k] and weight[j] != weight[k]
        ]
        values = range(int(limit) + 1) if partners else counts[k] + np.array([-2, -1, 0, 1, 2])
        for value in values:
            row = counts.copy()
            if 0 <= value <= limit:
                row[k] = value
            rows.append(row)
    return np.array(rows)


def paired_changes(columns: Columns, counts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers that differ from `counts` in two chains: by one in each, or, where both are in one
    column, by one in the first and to any value in the second; (k, chains), within the limits."""
    found = []
    for i, j in itertools.permutations(range(len(most)), 2):
        same = columns.chains[i].column == columns.chains[j].column
        seconds = np.arange(most[j] + 1) if same else counts[j] + np.array([-1, 1])
        for first, second in itertools.product((counts[i] - 1, counts[i] + 1), seconds):
            if second != counts[j] and 0 <= first <= most[i] and 0 <= second <= most[j]:
                row = counts.copy()
                row[i], row[j] = first, second
                found.append(row)
    return np.unique(np.array(found).reshape(-1, len(most)), axis=0)


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
