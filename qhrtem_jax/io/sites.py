"""Atoms as a file lists them: whether they can all be there, and what they are together."""

import dataclasses
import itertools
import math
import re

import numpy as np
from jaxtyping import Float64, Int64

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.specimen import Atoms, heights_of

SAME_SITE_NM = 0.002
"""Atoms closer than this are on one site: positions typed with three digits err by as much."""

NO_TWO_ATOMS_NM = 0.05
"""No two atoms are closer than this at one time (H2 measures 0.074 nm)."""

OCCUPANCY_ROUNDING = 0.02
"""Occupancies typed with two digits add up to 1 within this."""

MAX_ATOMS = 100_000
"""Atoms in a cell."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(\(\d+\))?", re.ASCII)
_CROWD = 200


@dataclasses.dataclass(frozen=True)
class ListedAtoms:
    """All atoms of a cell. `names` say where in the file an atom comes from; `kinds` are the
    elements with their charges, as the file has them; the rest as in `Atoms`."""

    names: list[str]
    kinds: list[str]
    symbols: list[str]
    positions: Float64[np.ndarray, "atoms 3"]
    occupancy: Float64[np.ndarray, " atoms"]
    b_nm2: Float64[np.ndarray, " atoms"]


def number_of(field: str, where: str) -> float:
    """A number, with or without its standard uncertainty: "0.1234(5)" is 0.1234.

    **Raises:** `InputError` for anything else.
    """
    match = _NUMBER.fullmatch(field)
    if match is None:
        raise InputError(f"{where}: found {field!r}, expected a number")
    value = float(field.split("(")[0])
    if not math.isfinite(value):
        raise InputError(f"{where}: found {field!r}, expected a finite number")
    return value


def occupancy_of(value: float, where: str) -> float:
    """**Raises:** `InputError` outside 0..1; what rounding adds to 1 is taken off."""
    if not -1e-9 <= value <= 1.0 + 1e-3:
        raise InputError(f"{where}: found occupancy {value:g}, expected 0 to 1")
    return min(max(value, 0.0), 1.0)


def close_pairs(
    positions: Float64[np.ndarray, "atoms 3"], metric: Float64[np.ndarray, "3 3"], radius: float
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """Pairs i < j of atoms closer than `radius` (nm), periodic images included, and how far apart.

    The cell's heights must be at least twice the radius. Effort grows with the number of atoms.

    **Raises:** `InputError` where atoms crowd, so that there would be very many pairs.
    """
    bins = np.clip(np.floor(heights_of(metric) / (1.001 * radius)), 1, 2**20).astype(np.int64)
    place = np.floor(np.mod(positions, 1.0) * bins).astype(np.int64) % bins
    weights = np.array([bins[1] * bins[2], bins[2], 1])
    order = np.argsort(place @ weights, kind="stable")
    keys, starts, counts = np.unique(
        (place @ weights)[order], return_index=True, return_counts=True
    )
    cells = place[order][starts]
    found_i, found_j, found_d = [], [], []
    steps = [(0,) if n == 1 else (0, 1) if n == 2 else (-1, 0, 1) for n in bins]
    for step in itertools.product(*steps):
        wanted = np.mod(cells + np.array(step), bins) @ weights
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        here = np.flatnonzero(keys[at] == wanted)
        products = counts[here] * counts[at[here]]
        if products.sum() > _CROWD * len(positions) + 1000:
            raise InputError(f"found very many atoms closer than {radius} nm to each other")
        which = np.repeat(np.arange(len(here)), products)
        rank = np.arange(products.sum()) - np.repeat(np.cumsum(products) - products, products)
        other = at[here]
        first = order[starts[here][which] + rank // counts[other][which]]
        second = order[starts[other][which] + rank % counts[other][which]]
        mine = first < second
        first, second = first[mine], second[mine]
        apart = positions[first] - positions[second]
        apart -= np.rint(apart)
        distance = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", apart, metric, apart), 0.0))
        near = distance < radius
        found_i.append(first[near])
        found_j.append(second[near])
        found_d.append(distance[near])
    return np.concatenate(found_i), np.concatenate(found_j), np.concatenate(found_d)


def atoms_on_sites(where: str, metric: Float64[np.ndarray, "3 3"], listed: ListedAtoms) -> Atoms:
    """The atoms, where all of them have room.

    Ions of one element that share a site (Fe2+ and Fe3+) become one atom with the sum of their
    occupancies; different elements on a site stay.

    **Raises:** `InputError` for an atom that is there twice, for occupancies on one site that sum
    to more than 1, and for atoms closer to each other than atoms can be.
    """
    if len(listed.symbols) > MAX_ATOMS:
        raise InputError(
            f"{where}: found {len(listed.symbols)} atoms, expected at most {MAX_ATOMS}"
        )
    try:
        first, second, distance = close_pairs(listed.positions, metric, NO_TWO_ATOMS_NM)
    except InputError as error:
        raise InputError(f"{where}: {error}, expected the atoms of a crystal") from None
    occupancy = listed.occupancy
    on_site = np.array(occupancy)
    same = distance < SAME_SITE_NM
    for i, j in zip(first[same], second[same], strict=True):
        if listed.symbols[i] == listed.symbols[j] and listed.kinds[i] == listed.kinds[j]:
            raise InputError(
                f"{where}: {listed.names[j]} is where {listed.names[i]} is, "
                f"{_at(listed, int(i))}; expected each atom once"
            )
    np.add.at(on_site, first[same], occupancy[second[same]])
    np.add.at(on_site, second[same], occupancy[first[same]])
    worst = int(np.argmax(on_site))
    if on_site[worst] > 1.0 + OCCUPANCY_ROUNDING:
        raise InputError(
            f"{where}: the occupancies on the site of {listed.names[worst]}, "
            f"{_at(listed, int(worst))}, sum to {on_site[worst]:.4g}, expected at most 1"
        )
    for i, j, d in zip(first, second, distance, strict=True):
        together = occupancy[i] + occupancy[j]
        if d >= SAME_SITE_NM and together > 1.0 + OCCUPANCY_ROUNDING:
            raise InputError(
                f"{where}: {listed.names[i]} and {listed.names[j]} are {d:.4f} nm apart, "
                f"{_at(listed, int(i))}, with occupancies that sum to {together:.4g}; expected "
                f"at most 1 on sites closer than {NO_TWO_ATOMS_NM} nm"
            )
    return _joined_ions(where, listed, first[same], second[same])


def _at(listed: ListedAtoms, index: int) -> str:
    return "at " + " ".join(f"{value:.4f}" for value in listed.positions[index])


def _joined_ions(where: str, listed: ListedAtoms, first: np.ndarray, second: np.ndarray) -> Atoms:
    occupancy, keep = np.array(listed.occupancy), np.ones(len(listed.symbols), dtype=bool)
    for i, j in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        alike = abs(listed.b_nm2[i] - listed.b_nm2[j]) < 1e-6
        if keep[i] and keep[j] and listed.symbols[i] == listed.symbols[j] and alike:
            occupancy[i] = min(occupancy[i] + occupancy[j], 1.0)
            keep[j] = False
    symbols = tuple(s for s, kept in zip(listed.symbols, keep, strict=True) if kept)
    try:
        return Atoms(symbols, listed.positions[keep], occupancy[keep], listed.b_nm2[keep])
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
