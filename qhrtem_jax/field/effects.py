"""What changes of numbers, and small changes of anything, do to the whitened pixels of a field.

Both are simulated from the way that the wave takes through the field as it is: behind the first
slice that differs, or to first order. Every device has a part of them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from qhrtem_jax.field.model import FieldModel, JointState, Stack
from qhrtem_jax.field.simulate import starts, starts_beside, whole_field
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.numerics import devices
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.whole_field import Changes, Tangents, tangent_residuals, with_changes

CHANGES, TANGENTS = 64, 32
"""Changes of numbers, and derivatives, that each device computes in one program."""

LEAST_CHAINS = 8
"""Programs are compiled for at least so many chains that change."""

MOVES_ALL = [INDEX[name] for name in ("absorption", "A0_x", "A0_y", "tilt_x", "tilt_y")]
"""Imaging parameters that act on atoms: a region's shift is one against the field's, and unknown
cells absorb like the nearest region."""

Made = dict[int, dict[int, int]]
"""Regions whose numbers are others, and which chains have which numbers there."""


def effects_of(
    model: FieldModel, state: JointState, journal: Journal, made: list[Made]
) -> Iterator[tuple[Made, Float32[np.ndarray, "regions pixels"]]]:
    """Each of some changes of numbers, and what it does to the residuals."""
    present, base = state.points[:, model.layout.counts], None
    if not made:
        return
    beside = starts_beside(model, state)
    # the first changes nothing
    variants = [_Variant(present, starts(model, state, present), beside)]
    for change in made:
        counts = present.copy()
        for region, numbers in change.items():
            counts[region, list(numbers)] = list(numbers.values())
        at = {region: int(model.cells.region_cells[region]) for region in change}
        places = [(at[region], chain) for region, chains in change.items() for chain in chains]
        variants.append(_Variant(counts, starts(model, state, counts), beside, tuple(places)))
    most = max(2 * len(change) for change in made)  # two in an exchange
    found = _residuals(model, state, journal, variants, most)
    for change, seen in zip([{}, *made], found, strict=True):
        if base is None:
            base = seen
        else:
            yield change, seen - base


def residuals_in(
    model: FieldModel, state: JointState, journal: Journal, stacks: Sequence[Stack]
) -> Iterator[Float32[np.ndarray, "regions pixels"]]:
    """Whitened residuals with chains elsewhere along the beam, in stacks with the simulator of that
    of the state."""
    present, variants = state.points[:, model.layout.counts], []
    cells = [*model.cells.region_cells.tolist(), *model.cells.unknown_cells.tolist()]
    here = np.concatenate([starts(model, state, present), starts_beside(model, state)])
    for stack in stacks:
        moved = dataclasses.replace(state, stack=stack)
        ranks = starts(model, moved, present), starts_beside(model, moved)
        differ = zip(cells, np.concatenate(ranks) != here, strict=True)
        places = [(cell, chain) for cell, row in differ for chain in np.flatnonzero(row).tolist()]
        variants.append(_Variant(present, *ranks, tuple(places)))
    most = max((len(variant.places) for variant in variants), default=1)
    yield from _residuals(model, state, journal, variants, 1 << (most - 1).bit_length())


@dataclasses.dataclass(frozen=True)
class _Variant:
    """Numbers of all chains of regions, ranks of their first atoms and of those of unknown cells,
    and (cell of the field, chain) of those that differ from the field as it is."""

    counts: Float[np.ndarray, "regions chains"]
    starts: Float[np.ndarray, "regions chains"]
    first_starts: Float[np.ndarray, "unknown chains"]
    places: tuple[tuple[int, int], ...] = ()


def _residuals(
    model: FieldModel, state: JointState, journal: Journal, variants: list[_Variant], most: int
) -> Iterator[Float32[np.ndarray, "regions pixels"]]:
    """Whitened residuals of each variant, of which none has more than `most` places."""
    layout, chunk = model.layout, CHANGES * devices.count()
    field, points = whole_field(model, state), jnp.asarray(state.points, model.dtype)
    most = max(LEAST_CHAINS, most)
    tick = journal.tick("changes of numbers", "changes")

    def array(tables: list[np.ndarray]) -> Array:
        return jnp.asarray(np.array(tables), model.dtype)

    for start in range(0, len(variants), chunk):
        part = variants[start : start + chunk]
        # programs are compiled for one length; what fills it up changes no chain
        full = part + [variants[0]] * (chunk - len(part))
        chains = np.full((chunk, most), -1)
        for k, variant in enumerate(part):
            for at, (cell, chain) in enumerate(variant.places):
                chains[k, at] = cell * layout.chains + chain
        changes = Changes(
            array([variant.counts for variant in full]),
            array([variant.starts for variant in full]),
            array([variant.first_starts for variant in full]),
            jnp.asarray(chains),
        )
        seen = np.asarray(with_changes(field, points, changes), np.float32)[: len(part)]
        journal.count(evaluations=len(part))
        tick(start + len(part), len(variants))
        yield from seen


@dataclasses.dataclass(frozen=True)
class Direction:
    """A small change by `step`: of a coordinate of the points of some `regions`, or of the numbers
    of a chain of some unknown `cells`; `chains`: which of all chains of the field that changes."""

    step: float
    chains: tuple[int, ...]
    regions: tuple[int, ...] = ()
    cells: tuple[int, ...] = ()
    index: int = 0  # of a point, or of the chains of a cell


def along(
    model: FieldModel, state: JointState, journal: Journal, directions: list[Direction]
) -> Iterator[tuple[Float32[np.ndarray, "regions pixels"], Float32[np.ndarray, " outside"]]]:
    """What each of some directions does to the residuals, and to the pixels of no region."""
    points, field = jnp.asarray(state.points, model.dtype), whole_field(model, state)
    chunk = TANGENTS * devices.count()
    most = max([LEAST_CHAINS, *(len(d.chains) for d in directions)])
    tick = journal.tick("derivatives", "derivatives")
    for start in range(0, len(directions), chunk):
        part = directions[start : start + chunk]
        known = np.zeros((chunk, *state.points.shape))
        unknown = np.zeros((chunk, *state.first.shape))
        chains = np.full((chunk, most), -1)
        for k, direction in enumerate(part):
            known[k, list(direction.regions), direction.index] = direction.step
            if direction.cells:
                unknown[k, list(direction.cells), direction.index] = direction.step
            chains[k, : len(direction.chains)] = direction.chains
        tangents = Tangents(
            jnp.asarray(known, model.dtype), jnp.asarray(unknown, model.dtype), jnp.asarray(chains)
        )
        seen, outside = tangent_residuals(field, points, state.weights.whole, tangents)
        journal.count(gradients=len(part))
        tick(start + len(part), len(directions))
        pairs = zip(np.asarray(seen, np.float32), np.asarray(outside, np.float32), strict=True)
        yield from itertools.islice(pairs, len(part))


def chains_of(model: FieldModel, index: int, regions: list[int]) -> tuple[int, ...]:
    """Which chains of the field a coordinate of some regions changes, as `image_along` takes it."""
    layout = model.layout
    if index in MOVES_ALL:
        return (-2,)
    if index < layout.imaging.stop or index >= layout.mtf_stretch.start:
        return (-1,)
    if not layout.shifts.start <= index < layout.shifts.stop:
        raise ValueError(f"coordinate {index} of a point is no nuisance that atoms are moved by")
    column = (index - layout.shifts.start) // 2
    mine = [c for c, chain in enumerate(model.columns.chains) if chain.column == column]
    cells = model.cells.region_cells[regions]
    return tuple(int(cell) * layout.chains + c for cell in cells for c in mine)
