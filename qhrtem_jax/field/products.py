"""Products of the vectors of a field with each other.

A change of atoms meets those of the regions that share pixels with it only. Products are kept by
pairs of these, so that they grow with the field and not with its square.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.field.vectors import Vectors

Matrix = Float[np.ndarray, "_ _"]


@dataclasses.dataclass(frozen=True)
class Products:
    """`changes[k]`: which vectors change numbers of region k, ascending; `pairs[i, j]`, i <= j:
    products of those of region i with those of region j, where they meet; `across[k]`: products of
    the nuisances `rows[k]`, all that they meet, with those of region k; `nuisances`: of these with
    each other."""

    changes: tuple[Int[np.ndarray, " _"], ...]
    pairs: dict[tuple[int, int], Matrix]
    rows: tuple[Int[np.ndarray, " _"], ...]
    across: tuple[Matrix, ...]
    nuisances: Float[np.ndarray, "n n"]

    def among(self, regions: Int[np.ndarray, " some"]) -> Float[np.ndarray, "c c"]:
        """Products of all changes of some regions with each other, these ascending."""
        places = self._places(regions)
        size = sum(map(len, places))
        found = np.zeros((size, size))
        for (i, at), (j, other) in itertools.product(zip(regions, places, strict=True), repeat=2):
            pair = self.pairs.get((int(i), int(j)))
            if pair is not None:
                found[np.ix_(at, other)] = pair
                found[np.ix_(other, at)] = pair.T
        return found

    def between(
        self, regions: Int[np.ndarray, " some"]
    ) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows c"]]:
        """(nuisances that meet changes of some regions, products of those with these)."""
        places = self._places(regions)
        rows = np.unique(np.concatenate([self.rows[k] for k in regions]))
        found = np.zeros((len(rows), sum(map(len, places))))
        for k, at in zip(regions, places, strict=True):
            found[np.ix_(np.searchsorted(rows, self.rows[k]), at)] = self.across[k]
        return rows, found

    def _places(self, regions: Int[np.ndarray, " some"]) -> list[np.ndarray]:
        """Where the changes of each region are among those of all, ascending."""
        mine = [self.changes[k] for k in regions]
        every = np.sort(np.concatenate(mine))
        return [np.searchsorted(every, one) for one in mine]


def make_products(vectors: Vectors) -> Products:
    """All products of the vectors of a field."""
    count, owners = vectors.count, vectors.owners
    changes = [np.flatnonzero(owners == k) for k in range(len(vectors.patches))]
    met: list[list[np.ndarray]] = [[np.zeros(0, int)] for _ in changes]
    for patch in vectors.patches:
        for k in np.unique(owners[patch.index]):
            if k >= 0:
                met[k].append(patch.index[owners[patch.index] < 0] - count)
    rows = [np.unique(np.concatenate(some)) for some in met]
    across = [np.zeros((len(r), len(c))) for r, c in zip(rows, changes, strict=True)]
    size = len(owners) - count
    nuisances, pairs = np.zeros((size, size)), dict[tuple[int, int], np.ndarray]()
    for patch in vectors.patches:
        part, its = patch.vectors.astype(float), owners[patch.index]
        made = part @ part.T
        beside = np.flatnonzero(its < 0)
        at = patch.index[beside] - count
        nuisances[np.ix_(at, at)] += made[np.ix_(beside, beside)]
        mine = {int(k): np.flatnonzero(its == k) for k in np.unique(its) if k >= 0}
        to = {k: np.searchsorted(changes[k], patch.index[one]) for k, one in mine.items()}
        for k, one in mine.items():
            row = np.searchsorted(rows[k], at)
            across[k][np.ix_(row, to[k])] += made[np.ix_(beside, one)]
        for i, j in itertools.combinations_with_replacement(sorted(mine), 2):
            pair = pairs.setdefault((i, j), np.zeros((len(changes[i]), len(changes[j]))))
            pair[np.ix_(to[i], to[j])] += made[np.ix_(mine[i], mine[j])]
    return Products(tuple(changes), pairs, tuple(rows), tuple(across), nuisances)
