"""What every change of atoms and every other parameter does to the whitened pixels of a field.

Changes of numbers are simulated in the field; other parameters (nuisances) act by their
derivatives. Regions that no pixels see together change in the same simulation.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from qhrtem_jax.field.layout import apart, pixels_beside
from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.simulate import residuals, snapped, whole_field
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integers import shared_columns
from qhrtem_jax.refine.unknown_cells import numbers_std
from qhrtem_jax.refine.whole_field import push, push_unknown

log = logging.getLogger(__name__)

UNSEEN = 0.1
"""Chi-square that a change of atoms may leave where none should be seen."""

TANGENTS_CPU, TANGENTS_GPU = 4, 16
"""Derivatives that are computed at once."""

Entries = list[list[tuple[int, Float32[np.ndarray, " pixels"]]]]
"""For the pixels of each region: (which vector, its part there)."""

Together = dict[tuple[int, int, int, int], dict[int, Float32[np.ndarray, " pixels"]]]
"""Of a heavier chain, its number, a lighter chain of the column, its number: what the two do beyond
each alone, to the pixels of each region that sees it."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Whitened pixels of one region, and the vectors that act on them."""

    index: Int[np.ndarray, " k"]
    vectors: Float32[np.ndarray, "k pixels"]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Vectors of a field: first the changes of single numbers, then what heavier and lighter atoms
    of a column do together beyond that, then the nuisances: those of each region, the shared ones,
    the numbers of cells that no region shows (in units of their prior's deviation).

    `changes`: region, chain, number of atoms; `joint`: as `IntegerModel.joint`, two heavier atoms
    do twice as much as one; `count`: how many vectors are no nuisances; `outside`: what the pixels
    of no region say of the numbers of each unknown cell, J^T J, cells apart from each other.
    """

    changes: Int[np.ndarray, "m 3"]
    joint: Int[np.ndarray, "t 6"]
    count: int
    blocks: tuple[Block, ...]
    outside: Float[np.ndarray, "u u"]


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
    count = len(changes) + len(np.unique(joint[:, 4]))
    slopes = _derivatives(model, state, journal, reach, count)
    known = count + len(state.points) * model.nuisances.own
    known += len(model.nuisances.coordinates.free) - model.nuisances.own
    unknown, outside = _beyond(model, state, journal, known)
    blocks = []
    for parts in zip(alone, together, slopes, unknown, strict=True):
        index, vectors = zip(*itertools.chain(*parts), strict=True)
        blocks.append(Block(np.array(index), np.array(vectors)))
    return Vectors(changes, joint, count, tuple(blocks), outside)


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
    base = residuals(model, state, journal)
    found: list[tuple[int, int, int]] = []
    entries: Entries = [[] for _ in base]
    for group in reach.groups:
        beyond = ~reach.near[:, group].any(axis=1)
        for chain in range(present.shape[1]):
            values = [_values(model, int(present[k, chain]), chain) for k in group]
            for numbers in itertools.zip_longest(*values):
                changed = {k: n for k, n in zip(group, numbers, strict=True) if n is not None}
                made = {k: {chain: n} for k, n in changed.items()}
                effect = residuals(model, _with_numbers(model, state, made), journal) - base
                if np.sum(effect[beyond] ** 2) > UNSEEN * len(changed):
                    return None
                for k, number in changed.items():
                    for b in np.flatnonzero(reach.near[:, k]):
                        entries[b].append((len(found), effect[b].astype(np.float32)))
                    found.append((k, chain, number))
    return np.array(found), entries


def _with_numbers(
    model: FieldModel, state: JointState, numbers: dict[int, dict[int, int]]
) -> JointState:
    """The state with other whole `numbers` of some chains of some regions."""
    points, counts = state.points.copy(), model.layout.counts
    points[list(numbers), counts] = whole_numbers(model, state)[list(numbers)]
    for region, changed in numbers.items():
        for chain, number in changed.items():
            points[region, counts.start + chain] = number
    return dataclasses.replace(state, points=points)


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
    present, base = whole_numbers(model, state).astype(int), residuals(model, state, journal)
    which = {tuple(change): v for v, change in enumerate(singles[0].tolist())}
    alone = [dict(block) for block in singles[1]]
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
            made = {k: e for k, e in zip(group, together, strict=True) if e is not None}
            numbers = {k: {i: n, j: m} for k, (i, n, j, m) in made.items()}
            effect = residuals(model, _with_numbers(model, state, numbers), journal) - base
            for k, (i, n, j, m) in made.items():
                one, other = which[k, i, n], which[k, j, m]
                effects[k][i, n, j, m] = {
                    int(b): (effect[b] - alone[b][one] - alone[b][other]).astype(np.float32)
                    for b in np.flatnonzero(reach.near[:, k])
                }


def _at_once(
    tangents: list[tuple[list[int], int]],
) -> Iterator[tuple[int, list[tuple[list[int], int]]]]:
    """(how many derivatives one program computes, those of `tangents` that are next)."""
    chunk = TANGENTS_CPU if jax.default_backend() == "cpu" else TANGENTS_GPU
    for start in range(0, len(tangents), chunk):
        yield chunk, tangents[start : start + chunk]


def _derivatives(
    model: FieldModel, state: JointState, journal: Journal, reach: _Reach, first: int
) -> Entries:
    """The vectors of the nuisances, from the `first` on, in units of their widths."""
    coordinates, own = model.nuisances.coordinates, model.nuisances.own
    index, width, regions = coordinates.index, coordinates.host().width, len(state.points)
    tangents = [(group, p) for group in reach.groups for p in range(own)]
    tangents += [(list(range(regions)), p) for p in range(own, len(index))]
    points, field = jnp.asarray(state.points, model.dtype), whole_field(model, state)
    entries: Entries = [[] for _ in range(regions)]
    for chunk, part in _at_once(tangents):
        directions = np.zeros((chunk, *state.points.shape))
        for k, (group, p) in enumerate(part):
            directions[k, group, index[p]] = width[p]
        moved = np.asarray(push(field, points, jnp.asarray(directions, model.dtype)), np.float32)
        for (group, p), effect in zip(part, moved, strict=False):
            for b in range(regions):
                if p >= own:
                    entries[b].append((first + regions * own + p - own, effect[b]))
                    continue
                for k in group:
                    if reach.near[b, k]:
                        entries[b].append((first + k * own + p, effect[b]))
    journal.count(gradients=len(tangents))
    return entries


def _beyond(
    model: FieldModel, state: JointState, journal: Journal, first: int
) -> tuple[Entries, np.ndarray]:
    """(the vectors of the numbers of unknown cells that regions see, from the `first` on,
    `Vectors.outside`)."""
    near, std = model.cells.near_unknown, numbers_std(model.per_cell)
    cells, chains = near.shape[1], len(std)
    entries: Entries = [[] for _ in state.points]
    tangents = [(group, c) for group in apart(near) for c in range(chains)]
    points, field = jnp.asarray(state.points, model.dtype), whole_field(model, state)
    outside = np.zeros((cells * chains, cells * chains))
    elsewhere: list[list[np.ndarray]] = [[] for _ in range(cells)]
    beside = pixels_beside(model.cells, model.problem.field.frame, model.columns)
    for chunk, part in _at_once(tangents):
        directions = np.zeros((chunk, cells, chains))
        for k, (group, c) in enumerate(part):
            directions[k, group, c] = std[c]
        directions = jnp.asarray(directions, model.dtype)
        moved, rest = push_unknown(field, points, state.weights.whole, directions)
        moved, rest = np.asarray(moved, np.float32), np.asarray(rest, float)
        for (group, c), effect, free in zip(part, moved, rest, strict=False):
            for cell in group:
                at = cell * chains + c
                for b in np.flatnonzero(near[:, cell]):
                    entries[b].append((first + at, effect[b]))
                elsewhere[cell].append(free[beside[cell].ravel()])
    for cell, changes in enumerate(elsewhere):
        if changes:
            at = slice(cell * chains, (cell + 1) * chains)
            outside[at, at] = np.array(changes) @ np.array(changes).T
    journal.count(gradients=len(tangents))
    return entries, outside
