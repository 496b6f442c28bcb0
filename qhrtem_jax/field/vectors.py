"""What every change of atoms and every other parameter does to the whitened pixels of a field.

Changes of numbers are simulated in the field; other parameters (nuisances) act by their
derivatives. Regions that no pixels see together change in the same simulation.
"""

import dataclasses
import itertools
import logging

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from qhrtem_jax.field.effects import Direction, Made, along, chains_of, effects_of
from qhrtem_jax.field.layout import apart, pixels_beside
from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.simulate import snapped
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integers import shared_columns
from qhrtem_jax.refine.unknown_cells import numbers_std

log = logging.getLogger(__name__)

UNSEEN = 0.1
"""Chi-square that a change of atoms may leave where none should be seen."""

Entries = list[list[tuple[int, Float32[np.ndarray, " pixels"]]]]
"""For the pixels of each region: (which vector, its part there)."""

Together = dict[tuple[int, int, int, int], dict[int, Float32[np.ndarray, " pixels"]]]
"""Of a heavier chain, its number, a lighter chain of the column, its number: what the two do beyond
each alone, to the pixels of each region that sees it."""


@dataclasses.dataclass(frozen=True)
class Patch:
    """Whitened pixels of one region, and the vectors that act on them."""

    index: Int[np.ndarray, " k"]
    vectors: Float32[np.ndarray, "k pixels"]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Vectors of a field: first the changes of single numbers, then what heavier and lighter atoms
    of a column do together beyond that, then the nuisances: those of each region, the shared ones,
    the numbers of cells that no region shows (in units of their prior's deviation).

    `changes`: region, chain, number of atoms; `joint`: as `Numbering.joint`, two heavier atoms do
    twice as much as one; `owners`: of each vector, the region whose numbers it changes, -1 for
    nuisances; `near`: whose pixels (first index) see whose atoms; `outside`: what the pixels of no
    region say of the numbers of each unknown cell, J^T J, cells apart from each other.
    """

    changes: Int[np.ndarray, "m 3"]
    joint: Int[np.ndarray, "t 6"]
    owners: Int[np.ndarray, " v"]
    near: Bool[np.ndarray, "regions regions"]
    patches: tuple[Patch, ...]
    outside: Float[np.ndarray, "u u"]

    @property
    def count(self) -> int:
        """How many vectors are no nuisances."""
        return int(np.sum(self.owners >= 0))

    def along(
        self,
        residuals: Float[np.ndarray, "regions pixels"],
        of: Int[np.ndarray, " some"] | None = None,
    ) -> Float[np.ndarray, " v"]:
        """Products of all vectors with residuals, in the pixels of all regions or `of` some."""
        found = np.zeros(len(self.owners))
        for k in range(len(self.patches)) if of is None else of:
            patch = self.patches[k]
            found[patch.index] += patch.vectors @ residuals[k]
        return found

    def effect(self, made: Float[np.ndarray, " c"]) -> Float[np.ndarray, "regions pixels"]:
        """What changes, each made so often, do to the residuals."""
        often = np.concatenate([made, np.zeros(len(self.owners) - len(made))])
        parts = []
        for patch in self.patches:
            some = np.flatnonzero(often[patch.index])
            parts.append(often[patch.index[some]] @ patch.vectors[some])
        return np.array(parts)


@dataclasses.dataclass(frozen=True)
class _Reach:
    """Whose pixels (first index) see whose atoms, and regions in groups that none sees two of."""

    near: Bool[np.ndarray, "regions regions"]
    groups: list[list[int]]


def make_vectors(model: FieldModel, state: JointState, journal: Journal) -> Vectors:
    """The vectors around a state."""
    reach = _Reach(model.cells.near, apart(model.cells.near))
    singles = _changes(model, state, journal, reach)
    if singles is None:
        log.info("atoms reach further than thought: regions are simulated one by one")
        regions = len(state.points)
        everywhere = np.ones((regions, regions), dtype=bool)
        reach = _Reach(everywhere, [[k] for k in range(regions)])
        singles = _changes(model, state, journal, reach)
        assert singles is not None  # nothing is beyond a reach of everywhere
    changes, alone = singles
    joint, together = _together(model, state, journal, reach, singles)
    _, first = np.unique(joint[:, 4], return_index=True)
    owners = np.concatenate([changes[:, 0], joint[first, 0] // model.layout.chains])
    count = len(owners)
    slopes = _derivatives(model, state, journal, reach, count)
    known = count + len(state.points) * model.nuisances.own
    known += len(model.nuisances.coordinates.free) - model.nuisances.own
    unknown, outside = _beyond(model, state, journal, known)
    patches = []
    for parts in zip(alone, together, slopes, unknown, strict=True):
        index, vectors = zip(*itertools.chain(*parts), strict=True)
        patches.append(Patch(np.array(index), np.array(vectors)))
    nuisances = known - count + model.cells.unknown_cells.size * model.layout.chains
    owners = np.concatenate([owners, np.full(nuisances, -1)])
    return Vectors(changes, joint, owners, reach.near, tuple(patches), outside)


def lighter_chains(model: FieldModel) -> list[int]:
    """Chains of atoms beside heavier (or equally heavy) ones in their column."""
    return sorted({j for _, j in shared_columns(model.columns)})


def _values(model: FieldModel, present: int, chain: int) -> list[int]:
    """Other numbers of a chain that are simulated: one more and less, and all of the lighter atoms
    of a column (one heavy atom scatters like several of them)."""
    most = int(model.most[chain])
    reach = most if chain in lighter_chains(model) else 1
    values = range(max(present - reach, 0), min(present + reach, most) + 1)
    return [n for n in values if n != present]


def _changes(
    model: FieldModel, state: JointState, journal: Journal, reach: _Reach
) -> tuple[np.ndarray, Entries] | None:
    """(changes (m, 3), their vectors); None where several together are seen further than `reach`
    says."""
    present = whole_numbers(model, state)
    found: list[tuple[int, int, int]] = []
    entries: Entries = [[] for _ in state.points]
    made: list[Made] = []
    for group in reach.groups:
        for chain in range(present.shape[1]):
            values = [_values(model, int(present[k, chain]), chain) for k in group]
            for numbers in itertools.zip_longest(*values):
                changed = zip(group, numbers, strict=True)
                made.append({k: {chain: n} for k, n in changed if n is not None})
    for change, effect in effects_of(model, state, journal, made):
        beyond = ~reach.near[:, list(change)].any(axis=1)
        if np.sum(effect[beyond] ** 2) > UNSEEN * len(change):
            return None
        for k, numbers in change.items():
            for b in np.flatnonzero(reach.near[:, k]):
                entries[b].append((len(found), effect[b].copy()))
            found += [(k, chain, number) for chain, number in numbers.items()]
    changes = np.array(found)
    # in an order that does not depend on which regions were changed together
    rank = np.argsort(np.lexsort(changes.T[::-1]))
    entries = [[(int(rank[v]), part) for v, part in block] for block in entries]
    return changes[np.argsort(rank)], entries


def _together(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    reach: _Reach,
    singles: tuple[np.ndarray, Entries],
) -> tuple[np.ndarray, Entries]:
    """(`Vectors.joint`, their vectors): what heavier and lighter atoms of a column do together
    beyond the `singles`.

    Exchanges, more of one and less of the other, change the image least and are simulated in the
    field; all else in the periodic cell of each region, for its own pixels.
    """
    effects = [_periodic(model, state, k) for k in range(len(state.points))]
    _simulate_exchanges(model, state, journal, reach, singles, effects)
    present = whole_numbers(model, state).astype(int)
    found: list[tuple[int, ...]] = []
    entries: Entries = [[] for _ in effects]
    vectors = itertools.count(len(singles[0]))
    for k, effect in enumerate(effects):
        row = k * present.shape[1]
        for (i, n, j, m), parts in effect.items():
            vector = next(vectors)
            for b, part in parts.items():
                entries[b].append((vector, part))
            for often in (1, 2):
                value = present[k, i] + often * (n - present[k, i])
                found.append((row + i, value, row + j, m, vector, often))
    return np.array(found, dtype=int).reshape(-1, 6), entries


def _periodic(model: FieldModel, state: JointState, k: int) -> Together:
    """What the periodic cell of region `k` says."""
    counts, fit = model.layout.counts, state.weights.fit
    present = [int(n) for n in whole_numbers(model, state)[k]]
    point, shared = snapped(model, state)[k], shared_columns(model.columns)
    found: Together = {}
    for i, j in shared:
        if (j, i) in shared and j < i:  # equally heavy: once
            continue
        ends = [n for n in (present[i] - 1, present[i] + 1) if 0 <= n <= model.most[i]]
        others = _values(model, present[j], j)
        states = [(n, m) for n in (present[i], *ends) for m in (present[j], *others)]
        stack = np.tile(point, (len(states), 1))
        stack[:, counts.start + np.array([i, j])] = states
        white = np.asarray(fit.likelihood.whiten(fit.images(stack)), float)
        table = white.reshape(1 + len(ends), 1 + len(others), -1)
        beyond = table - table[:1] - table[:, :1] + table[0, 0]
        for (a, n), (b, m) in itertools.product(enumerate(ends, 1), enumerate(others, 1)):
            found[i, n, j, m] = {k: beyond[a, b].astype(np.float32)}
    return found


def _simulate_exchanges(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    reach: _Reach,
    singles: tuple[np.ndarray, Entries],
    effects: list[Together],
) -> None:
    """Write into `effects` what exchanges do in the field, to all pixels that see them."""
    present = whole_numbers(model, state).astype(int)
    which = {tuple(change): v for v, change in enumerate(singles[0].tolist())}
    alone = [dict(block) for block in singles[1]]
    made: list[Made] = []
    for group in reach.groups:
        exchanges = [
            [
                (i, n, j, m)
                for i, n, j, m in effects[k]
                if (n - present[k, i]) * (m - present[k, j]) < 0
            ]
            for k in group
        ]
        for together in itertools.zip_longest(*exchanges):
            some = {k: e for k, e in zip(group, together, strict=True) if e is not None}
            made.append({k: {i: n, j: m} for k, (i, n, j, m) in some.items()})
    for change, effect in effects_of(model, state, journal, made):
        for k, numbers in change.items():
            (i, n), (j, m) = numbers.items()
            one, other = which[k, i, n], which[k, j, m]
            effects[k][i, n, j, m] = {
                int(b): effect[b] - alone[b][one] - alone[b][other]
                for b in np.flatnonzero(reach.near[:, k])
            }


def _derivatives(
    model: FieldModel, state: JointState, journal: Journal, reach: _Reach, first: int
) -> Entries:
    """The vectors of the nuisances, from the `first` on, in units of their widths."""
    coordinates, own = model.nuisances.coordinates, model.nuisances.own
    width, regions = coordinates.host().width, len(state.points)
    everywhere = list(range(regions))
    tangents = [(group, p) for group in reach.groups for p in range(own)]
    tangents += [(everywhere, p) for p in range(own, len(width))]
    directions = [
        Direction(width[p], chains_of(model, at, group), tuple(group), index=at)
        for group, p in tangents
        for at in (coordinates.free[p],)
    ]
    entries: Entries = [[] for _ in everywhere]
    moved = along(model, state, journal, directions)
    for (group, p), (effect, _) in zip(tangents, moved, strict=True):
        for b in everywhere:
            if p >= own:
                entries[b].append((first + regions * own + p - own, effect[b].copy()))
                continue
            for k in group:
                if reach.near[b, k]:
                    entries[b].append((first + k * own + p, effect[b].copy()))
    return entries


def _beyond(
    model: FieldModel, state: JointState, journal: Journal, first: int
) -> tuple[Entries, np.ndarray]:
    """(the vectors of the numbers of unknown cells that regions see, from the `first` on,
    `Vectors.outside`)."""
    near, std = model.cells.near_unknown, numbers_std(model.per_cell)
    cells, chains, places = near.shape[1], len(std), model.cells.unknown_cells
    entries: Entries = [[] for _ in state.points]
    tangents = [(group, c) for group in apart(near) for c in range(chains)]
    directions = [
        Direction(std[c], tuple(int(places[k]) * chains + c for k in group), (), tuple(group), c)
        for group, c in tangents
    ]
    outside = np.zeros((cells * chains, cells * chains))
    elsewhere: list[list[np.ndarray]] = [[] for _ in range(cells)]
    beside = pixels_beside(model.cells, model.problem.field.frame, model.columns)
    moved = along(model, state, journal, directions)
    for (group, c), (effect, rest) in zip(tangents, moved, strict=True):
        for cell in group:
            at = cell * chains + c
            for b in np.flatnonzero(near[:, cell]):
                entries[b].append((first + at, effect[b].copy()))
            elsewhere[cell].append(rest[beside[cell].ravel()].astype(float))
    for cell, changes in enumerate(elsewhere):
        if changes:
            at = slice(cell * chains, (cell + 1) * chains)
            outside[at, at] = np.array(changes) @ np.array(changes).T
    return entries, outside
