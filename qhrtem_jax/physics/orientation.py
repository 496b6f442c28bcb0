"""A crystal as the beam sees it along a zone axis: a right-angled cell with the beam along z.

A multislice needs a cell with right angles. Along most zones there is none exactly, but one whose
edges are lattice vectors that are nearly perpendicular, which a small strain makes so.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float64

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.scattering import atomic_number
from qhrtem_jax.physics.specimen import Atoms, UnitCell

LARGEST_NM = 6.0
"""Longest edge that is looked for."""

MOST_ATOMS = 4000
"""Atoms of a cell along a zone axis."""

SAME_NM = 0.005
"""Atoms closer than this to where a translation brings another are the same."""

PLANE_NM = 0.012
"""Atomic planes may lie so far from the middle of their slice."""

THICKEST_NM, THINNEST_NM, USUAL_NM = 0.3, 0.05, 0.15
"""Slices are at most and at least so thick, and about the last where planes have no rhythm."""


@dataclasses.dataclass(frozen=True)
class Oriented:
    """`edges`, lattice indices of the cell's a, b (across the beam, x and y) and c (along it), with
    halves and thirds where the lattice is centred; `strain`, the largest relative change of a
    length that makes them perpendicular; `atoms`, in a right-angled cell of `lengths_nm`."""

    edges: Float64[np.ndarray, "3 3"]
    strain: float
    lengths_nm: tuple[float, float, float]
    atoms: Atoms


def orient(
    cell: UnitCell,
    zone: tuple[int, int, int],
    up: tuple[int, int, int],
    max_strain: float,
) -> Oriented:
    """The smallest right-angled cell with the beam along `zone` and `up` towards smaller y, which
    is upwards on a screen; both are direct lattice indices.

    The origin lies between the columns, as far from them as can be, and such that the heaviest
    atom nearest to it is in the last plane of the cell.

    **Raises:** `InputError` where zone and up are parallel or nothing, and where no cell is within
    `max_strain`; the message names the best one.
    """
    edges = np.asarray(cell.edges_nm)
    frame = _frame(edges, zone, up)
    centrings = _centrings(cell)
    along = _shortest_along(np.array(zone), centrings)
    height = float(np.linalg.norm(along @ edges))
    vectors = _lattice_vectors(edges, frame, centrings, height)
    best = None
    for a, b in _pairs(vectors, frame, edges):
        matrix = np.array([a, b, along])
        strain = _strain(matrix @ edges)
        if best is None or strain < best[1]:
            best = matrix, strain
        if strain <= max_strain:
            break
    if best is None or best[1] > max_strain:
        raise InputError(_no_cell(zone, best, edges, max_strain))
    matrix, strain = best
    lengths = np.linalg.norm(matrix @ edges, axis=1)
    atoms = _filled(cell.atoms, matrix, edges)
    size = (float(lengths[0]), float(lengths[1]), float(lengths[2]))
    return Oriented(matrix, strain, size, _at_origin(atoms, lengths))


def equal_slices(z: Float64[np.ndarray, " atoms"], length_nm: float) -> tuple[int, float, float]:
    """(number of equal slices of a cell whose atoms lie at `z` fractions of its `length_nm`, the
    shift of z that brings planes to the middle of theirs, how far in nm the worst stays from it).

    The fewest slices that are thin enough and each hold whole planes; where planes have no such
    rhythm, slices of the usual thickness.
    """
    fewest = max(1, int(np.ceil(length_nm / THICKEST_NM - 1e-9)))
    most = max(fewest, int(length_nm / THINNEST_NM))
    for count in range(fewest, most + 1):
        shift, error = _rhythm(z, count, length_nm)
        if error <= PLANE_NM:
            return count, shift, error
    usual = max(fewest, round(length_nm / USUAL_NM))
    return usual, *_rhythm(z, usual, length_nm)


def _frame(
    edges: np.ndarray, zone: tuple[int, int, int], up: tuple[int, int, int]
) -> Float64[np.ndarray, "3 3"]:
    """Unit vectors x, y, z as rows: x to the right, y down, z into the screen."""
    beam, upward = np.array(zone) @ edges, np.array(up) @ edges
    if not np.any(beam):
        raise InputError("zone: found [0,0,0], expected the direction of the beam")
    z = beam / np.linalg.norm(beam)
    across = upward - (upward @ z) * z
    if np.linalg.norm(across) < 1e-3 * np.linalg.norm(upward) or not np.any(upward):
        raise InputError(f"up: found {list(up)}, expected a direction across the zone {list(zone)}")
    y = -across / np.linalg.norm(across)
    return np.array([np.cross(y, z), y, z])


def _centrings(cell: UnitCell) -> list[np.ndarray]:
    """Translations within the cell, the zero one first, that bring the crystal onto itself."""
    atoms = cell.atoms
    kinds = [
        (s, round(float(o), 3), round(float(b), 6))
        for s, o, b in zip(atoms.symbols, atoms.occupancy, atoms.b_nm2, strict=True)
    ]
    found = [np.zeros(3)]
    steps = (0.0, 1.0 / 3.0, 0.5, 2.0 / 3.0)
    metric = cell.metric
    for shift in itertools.product(steps, repeat=3):
        if not any(shift):
            continue
        moved = atoms.positions + np.array(shift)
        if all(
            _finds(moved[k], kinds[k], atoms.positions, kinds, metric) for k in range(len(kinds))
        ):
            found.append(np.array(shift))
    return found


def _finds(place: np.ndarray, kind: tuple, positions: np.ndarray, kinds: list, metric) -> bool:
    apart = positions - place
    apart -= np.rint(apart)
    distance = np.sqrt(np.einsum("ni,ij,nj->n", apart, metric, apart))
    return any(distance[k] < SAME_NM and kinds[k] == kind for k in np.flatnonzero(distance < 0.01))


def _shortest_along(zone: np.ndarray, centrings: list[np.ndarray]) -> np.ndarray:
    """The shortest lattice vector along the zone."""
    primitive = zone / np.gcd.reduce(zone)
    for share in (1.0 / 3.0, 0.5, 2.0 / 3.0):
        part = share * primitive
        if any(np.allclose(np.mod(part - c + 1e-6, 1.0), 1e-6, atol=1e-5) for c in centrings):
            return part
    return primitive


def _lattice_vectors(
    edges: np.ndarray, frame: np.ndarray, centrings: list[np.ndarray], height: float
) -> Float64[np.ndarray, "n 3"]:
    """Lattice vectors across the beam, within the largest length; of those that differ along the
    beam by the cell's height, the one that is most across."""
    reach = [int(np.ceil(LARGEST_NM / h)) for h in _heights(edges)]
    grid = np.stack(
        np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    indices = np.concatenate([grid + c for c in centrings])
    seen = indices @ edges @ frame.T
    flat = np.hypot(seen[:, 0], seen[:, 1])
    keep = (flat > 1e-6) & (flat <= LARGEST_NM) & (np.abs(seen[:, 2]) <= 0.5 * height + 1e-6)
    return indices[keep]


def _heights(edges: np.ndarray) -> Float64[np.ndarray, " 3"]:
    return 1.0 / np.linalg.norm(np.linalg.inv(edges), axis=0)


def _pairs(vectors: np.ndarray, frame: np.ndarray, edges: np.ndarray):
    """(a, b) along x and y, the smallest area first."""
    seen = vectors @ edges @ frame.T
    slope = 0.05  # far more than any strain that is allowed
    along = []
    for axis, other in ((0, 1), (1, 0)):
        near = (seen[:, axis] > 0) & (np.abs(seen[:, other]) < slope * seen[:, axis])
        near &= np.abs(seen[:, 2]) < slope * seen[:, axis]
        chosen = vectors[near]
        length = np.linalg.norm(seen[near], axis=1)
        order = np.argsort(length, kind="stable")[:40]
        along.append((chosen[order], length[order]))
    (first, a), (second, b) = along
    area = np.multiply.outer(a, b)
    for flat in np.argsort(area, axis=None, kind="stable"):
        i, j = np.unravel_index(flat, area.shape)
        yield first[i], second[j]


def _strain(vectors: np.ndarray) -> float:
    """Largest relative change of a length when three vectors become perpendicular."""
    lengths = np.linalg.norm(vectors, axis=1)
    stretches = np.linalg.svd(np.linalg.inv(vectors) @ np.diag(lengths), compute_uv=False)
    return float(np.max(np.abs(stretches - 1.0)))


def _no_cell(zone, best, edges: np.ndarray, max_strain: float) -> str:
    if best is None:
        return f"zone: found {list(zone)}, along which no cell with edges below {LARGEST_NM} nm is"
    matrix, strain = best
    size = " x ".join(f"{n:.3f}" for n in np.linalg.norm(matrix @ edges, axis=1))
    names = ", ".join(_named(v) for v in matrix)
    return (
        f"max_strain: found {max_strain:g}, but the best right-angled cell along {list(zone)} "
        f"(edges {names}, {size} nm) needs a strain of {strain:.4f}"
    )


def _named(vector: np.ndarray) -> str:
    return "[" + " ".join(f"{v:g}" for v in np.round(vector, 3)) + "]"


def _filled(atoms: Atoms, matrix: np.ndarray, edges: np.ndarray) -> Atoms:
    """All atoms within the cell whose edges are `matrix`."""
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ matrix
    low, high = np.floor(corners.min(axis=0)) - 1, np.ceil(corners.max(axis=0)) + 1
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"),
        axis=-1,
    ).reshape(-1, 3)
    expected = round(abs(np.linalg.det(matrix)) * len(atoms.symbols))
    if expected > MOST_ATOMS:
        raise InputError(
            f"zone: found a cell of {expected} atoms, expected at most {MOST_ATOMS}: "
            "allow more strain (max_strain)"
        )
    owner = np.repeat(np.arange(len(atoms.symbols)), len(grid))
    places = (atoms.positions[:, None] + grid).reshape(-1, 3) @ np.linalg.inv(matrix)
    # an atom on a face belongs to one of both sides
    tiny = 1e-6
    inside = np.all((places >= -tiny) & (places < 1.0 - tiny), axis=1)
    places, owner = places[inside], owner[inside]
    assert len(places) == expected, (len(places), expected)
    return Atoms(
        tuple(atoms.symbols[k] for k in owner),
        places,
        atoms.occupancy[owner],
        atoms.b_nm2[owner],
    )


def _at_origin(atoms: Atoms, lengths: np.ndarray) -> Atoms:
    """Atoms with the origin between columns and planes."""
    positions = np.array(atoms.positions)
    count, shift, _ = equal_slices(positions[:, 2], float(lengths[2]))
    positions[:, 2] += shift
    return dataclasses.replace(atoms, positions=_heaviest_first(atoms, positions, lengths, count))


def _heaviest_first(
    atoms: Atoms, positions: np.ndarray, lengths: np.ndarray, slices: int
) -> np.ndarray:
    """Of all equally good origins, that with a heavy atom nearest to it, in the last plane."""
    numbers = np.array([atomic_number(symbol) for symbol in atoms.symbols])
    heavy = positions[numbers == numbers.max()]
    gaps = [_equal_gaps(positions[:, axis], float(lengths[axis])) for axis in (0, 1)]
    best = None
    for x, y in itertools.product(*gaps):
        for k in range(slices):
            moved = np.mod(heavy - np.array([x, y, k / slices]) + 1e-6, 1.0) - 1e-6
            first = min(moved.tolist(), key=lambda p: (round(p[0], 4), round(p[1], 4), -p[2]))
            key = (round(first[0], 4), round(first[1], 4), -round(first[2], 4))
            if best is None or key < best[0]:
                best = key, np.array([x, y, k / slices])
    assert best is not None
    return np.mod(positions - best[1] + 1e-9, 1.0)


def _equal_gaps(fractions: np.ndarray, length_nm: float) -> list[float]:
    """Middles of all gaps that are as wide as the widest."""
    places = np.sort(np.mod(fractions, 1.0))
    gaps = np.diff(np.append(places, places[0] + 1.0))
    wide = np.flatnonzero(gaps > gaps.max() - SAME_NM / length_nm)
    return [float(places[k] + 0.5 * gaps[k]) for k in wide]


def _rhythm(z: np.ndarray, count: int, length_nm: float) -> tuple[float, float]:
    """(shift that brings atoms to the middle of `count` equal slices, how far the worst stays)."""
    mean = np.angle(np.mean(np.exp(2j * np.pi * count * z))) / (2.0 * np.pi)
    off = count * z - mean
    off -= np.rint(off)
    middle = mean + 0.5 * (off.min() + off.max())
    worst = 0.5 * (off.max() - off.min())
    return (0.5 - middle) / count, float(worst) * length_nm / count
