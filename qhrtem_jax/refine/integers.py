"""Whole numbers of atoms: from relaxed ones, by search, and how probable each is.

Bootstrapping fixes relaxed numbers one by one, the surest first, and conditions the others on each
(Teunissen, J. Geodesy 72, 606, 1998: integers of satellite ranging). A search over single, paired,
combined and degenerate changes then certifies the result, and its candidates carry the
probabilities.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.physics.scattering import atomic_number
from qhrtem_jax.refine.surfaces import Surfaces

REACH = 2
"""Single changes go this far to either side."""


def fix_surest(
    numbers: Float[np.ndarray, " n"],
    covariance: Float[np.ndarray, "n n"],
    most: Num[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Whole numbers from relaxed ones, the surest first, the others following each; not all 0.

    **Arguments:** `numbers`, relaxed; `most`, largest numbers.
    """
    mean, covariance = numbers.astype(float).copy(), covariance.astype(float).copy()
    fixed = np.zeros(len(mean))
    left = list(range(len(mean)))
    while left:
        variance = np.maximum(np.diagonal(covariance)[left], 1e-8)
        nearest = np.clip(np.rint(mean[left]), 0, most[left])
        best = int(np.argmax((1.0 - 2.0 * np.abs(mean[left] - nearest)) / variance))
        k = left.pop(best)
        fixed[k] = nearest[best]
        spread = max(covariance[k, k], 1e-8)
        mean = mean + covariance[:, k] / spread * (fixed[k] - mean[k])
        covariance = covariance - np.outer(covariance[:, k], covariance[k]) / spread
    return _some(fixed, numbers)


def _some(
    counts: Float[np.ndarray, " n"], relaxed: Num[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Whole numbers, one atom where the longest chain is if there would be none: no region is
    empty."""
    return counts if counts.any() else np.eye(len(counts))[int(np.argmax(relaxed))]


REJECTED = 1e6
"""Chi-square that the surface rule adds to numbers that it rejects: no image outweighs it."""

UNLIKELY = 9.0
"""The same where an image may outweigh it, with three standard deviations of evidence."""

LEDGE = 9.0
"""Chi-square that each step of the face costs where a crystal begins, which an image may outweigh
in the same way: some dozens of steps are looked at in each region."""


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Which numbers of atoms are possible (within the sites, not empty), and which are unlikely."""

    surfaces: Surfaces
    most: Int[np.ndarray, " chains"]
    unlikely: float  # chi-square that numbers cost which the surface rule rejects
    per_cell: Int[np.ndarray, " chains"]  # atoms of each chain in one cell
    roughness_cells: float | None = None  # std, in cells, of the lengths of chains side by side

    def allow(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Bool[np.ndarray, "*batch"]:
        """Whether whole `counts` are possible, of chains whose first atoms have the ranks `begins`
        (None: 0)."""
        most = self.most if begins is None else self.room(begins)
        inside = np.all((counts >= 0) & (counts <= most), axis=-1)
        return np.asarray(inside & np.any(counts > 0, axis=-1))

    def room(self, begins: Int[np.ndarray, "*batch chains"]) -> Int[np.ndarray, "*batch chains"]:
        """Largest numbers of chains whose first atoms have the ranks `begins`. Sites before the
        slice that crystals begin with come last in rank, and are no room for these."""
        sites = self.surfaces.sites
        before = sites.chain[sites.slice < sites.entrance]
        last = np.bincount(before, minlength=sites.chains)
        return self.most - begins - np.where(begins > 0, last, 0)

    def penalty(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Float[np.ndarray, "*batch"]:
        """What surface rule and roughness add to chi-square; `begins` as for `allow`."""
        total = np.zeros(np.shape(counts)[:-1])
        if self.surfaces.rule != "none":
            total = total + self.unlikely * self.surfaces.unlikely(counts, begins)
        ends = counts if begins is None else counts + begins
        total = total + self._rough(ends)
        if begins is not None:
            levels, there = np.broadcast_arrays(begins // self.per_cell, counts > 0)
            deepest = np.iinfo(levels.dtype).max
            first = np.min(levels, axis=-1, keepdims=True, where=there, initial=deepest)
            levels = np.sort(np.where(there, levels, first), axis=-1)
            total = total + self._rough(begins) + LEDGE * np.sum(np.diff(levels) > 0, axis=-1)
        return np.asarray(total)

    def _rough(self, ends: Num[np.ndarray, "*batch chains"]) -> Float[np.ndarray, "*batch"]:
        """What the roughness of a face adds to chi-square, where chains end with so many atoms."""
        if self.roughness_cells is None:
            return np.zeros(np.shape(ends)[:-1])
        length = ends / self.per_cell
        rough = np.square(length - length.mean(axis=-1, keepdims=True)).sum(axis=-1)
        return np.asarray(rough / self.roughness_cells**2)

    def roughness(self) -> Float[np.ndarray, "chains chains"]:
        """Precision of numbers whose lengths are alike: the quadratic part of `penalty`."""
        count = len(self.per_cell)
        if self.roughness_cells is None:
            return np.zeros((count, count))
        centred = np.eye(count) - 1.0 / count
        return centred / np.outer(self.per_cell, self.per_cell) / self.roughness_cells**2

    def repair(self, counts: Num[np.ndarray, " chains"]) -> Float[np.ndarray, " chains"]:
        """The nearest possible numbers that removing rejected atoms leads to."""
        counts = _some(np.clip(np.rint(counts), 0.0, self.most), counts)
        while counts.sum() > 1 and np.any(lonely := self.surfaces.lonely(counts)):
            counts[self.surfaces.sites.chain[np.argmax(lonely)]] -= 1
        return counts


def single_changes(
    columns: Columns, counts: Num[np.ndarray, " chains"], most: Num[np.ndarray, " chains"]
) -> Num[np.ndarray, "k chains"]:
    """Numbers that differ from `counts` in one chain, the same k for all `counts`.

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


def paired_changes(
    counts: Num[np.ndarray, " chains"], most: Num[np.ndarray, " chains"]
) -> Num[np.ndarray, "k chains"]:
    """Numbers that differ from `counts` by one in two chains, within the limits."""
    found = []
    for i, j in itertools.combinations(range(len(most)), 2):
        for first, second in itertools.product((-1, 1), (-1, 1)):
            row = counts.copy()
            row[i] += first
            row[j] += second
            if 0 <= row[i] <= most[i] and 0 <= row[j] <= most[j]:
                found.append(row)
    return np.array(found).reshape(-1, len(most))


def shared_columns(columns: Columns) -> list[tuple[int, int]]:
    """(heavier, lighter) chains of the same column: the hardest to count."""
    number = [atomic_number(c.symbol) for c in columns.chains]
    return [
        (i, j)
        for i, j in itertools.permutations(range(len(number)), 2)
        if columns.chains[i].column == columns.chains[j].column and number[i] >= number[j]
    ]


def degenerate_changes(
    columns: Columns, counts: Num[np.ndarray, " chains"], most: Num[np.ndarray, " chains"]
) -> Num[np.ndarray, "k chains"]:
    """Numbers that differ in two chains of one column: by one in the heavier, to any value in the
    other; the same k for all `counts` (impossible ones repeat `counts`).

    A heavy atom more and a few light ones less scatter nearly alike.
    """
    rows = []
    for i, j in shared_columns(columns):
        for step, value in itertools.product((-1, 1), range(int(most[j]) + 1)):
            row = counts.copy()
            if 0 <= counts[i] + step <= most[i]:
                row[i] += step
                row[j] = value
            rows.append(row)
    return np.array(rows).reshape(-1, len(most))


SURE = 0.95
"""A number that is claimed with less is doubtful."""

LEAST_PROBABILITY = 1e-4
"""Less is not reported."""


@dataclasses.dataclass(frozen=True)
class Belief:
    """Of a region: the probability of each number of each chain, and of each slice that its last
    atom may be in (counted from 1)."""

    numbers: list[dict[int, float]]
    exits: dict[int, float]


def doubtful_exit(
    sites: Sites,
    counts: Float[np.ndarray, " chains"],
    belief: Belief,
    begins: Int[np.ndarray, " chains"] | None = None,
) -> int | None:
    """The chain whose last atom alone makes the exit of a region, where its number is believed with
    less than `SURE`; None where several do, or the number is sure. `begins` as for the sites."""
    last = sites.extent(counts, begins)[1]
    taken = sites.occupied(counts, begins) & (sites.slice == last - 1)
    chains = np.unique(sites.chain[taken])
    if len(chains) != 1:
        return None
    chain = int(chains[0])
    return chain if belief.numbers[chain].get(int(counts[chain]), 0.0) < SURE else None


def weighed(
    counts: Num[np.ndarray, "k chains"], chi2: Float[np.ndarray, " k"]
) -> tuple[Num[np.ndarray, "s chains"], Float[np.ndarray, " s"]]:
    """(the different states, their probabilities), from states and their objectives."""
    states, first = np.unique(counts, axis=0, return_index=True)
    weight = np.exp(-0.5 * (chi2[first] - np.min(chi2)))
    return states, weight / weight.sum()


def shares(values: Num[np.ndarray, " s"], weight: Float[np.ndarray, " s"]) -> dict[int, float]:
    """Probability of each whole number among `values`, those of little probability left out."""
    known = {int(n): float(weight[values == n].sum()) for n in np.unique(values)}
    return {n: p for n, p in known.items() if p >= LEAST_PROBABILITY}
