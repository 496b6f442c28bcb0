"""Crystals from extended XYZ files (https://github.com/libAtoms/extxyz), as ASE, OVITO and this
program write them: lengths in Angstrom, the cell as `Lattice` in the second line.

Occupancies and Debye-Waller factors are read from columns `occupancy` (or `occupancies`) and
`b_angstrom2` (B) or `u_angstrom2` (U); without them they are 1 and 0.
"""

import math
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.elements import element_of
from qhrtem_jax.io.sites import MAX_ATOMS, ListedAtoms, atoms_on_sites, number_of, occupancy_of
from qhrtem_jax.physics.specimen import UnitCell, check_cell, metric_of

_KEY = re.compile(r'(\w+)=("[^"]*"|\S+)')
_OCCUPANCY = ("occupancy", "occupancies")
_B, _U = "b_angstrom2", "u_angstrom2"
_PLAIN = "species:S:1:pos:R:3"


def read_xyz(path: Path, data: bytes) -> UnitCell:
    """The first crystal of an extended XYZ file.

    **Raises:** `InputError` for a damaged or cut off one, and for a molecule, which has no cell.
    """
    lines = data.decode("utf-8", "replace").splitlines()
    count = _count(path, lines)
    known = {key.lower(): value.strip('"') for key, value in _KEY.findall(lines[1])}
    vectors = _lattice(path, known.get("lattice"))
    columns = _columns(path, known.get("properties", _PLAIN))
    rows = [
        _atom(path, number, line, columns) for number, line in enumerate(lines[2 : 2 + count], 3)
    ]
    places = np.array([place for _, place, _, _ in rows]) @ np.linalg.inv(vectors)
    lengths, angles = _shape(path, vectors)
    listed = ListedAtoms(
        [f"the atom of line {number}" for number in range(3, 3 + count)],
        [label for label, *_ in rows],
        [element_of(label, f"{path} line {k}") for k, (label, *_) in enumerate(rows, 3)],
        places,
        np.array([occupancy for *_, occupancy, _ in rows]),
        np.array([b for *_, b in rows]),
    )
    return UnitCell(lengths, angles, atoms_on_sites(str(path), metric_of(lengths, angles), listed))


def _count(path: Path, lines: list[str]) -> int:
    head = lines[0].strip() if lines else ""
    if not head.isdigit() or len(head) > 9:
        raise InputError(f"{path} line 1: found {head[:40]!r}, expected the number of atoms")
    count = int(head)
    if not 1 <= count <= MAX_ATOMS:
        raise InputError(f"{path}: found {count} atoms, expected 1 to {MAX_ATOMS}")
    if len(lines) < 2 + count:
        raise InputError(
            f"{path}: announces {count} atoms, holds {max(len(lines) - 2, 0)}: is it cut off?"
        )
    return count


def _lattice(path: Path, text: str | None) -> Float64[np.ndarray, "3 3"]:
    """The edges of the cell as rows, in Angstrom."""
    where = f"{path} line 2"
    if text is None:
        raise InputError(f'{where}: found no Lattice="...", expected the cell of a crystal')
    values = [number_of(field, where) for field in text.split()]
    if len(values) != 9:
        raise InputError(f"{where}: found a Lattice of {len(values)} numbers, expected 9")
    vectors = np.array(values).reshape(3, 3)
    if not np.linalg.det(vectors) > 1e-9:
        raise InputError(f"{where}: found a Lattice that spans no right-handed cell")
    return vectors


def _columns(path: Path, text: str) -> dict[str, int]:
    """Where the numbers of an atom are that are of use, by name."""
    where = f"{path} line 2"
    parts = text.split(":")
    if len(parts) % 3 or not all(n.isdigit() and len(n) < 4 for n in parts[2::3]):
        raise InputError(f"{where}: found Properties={text[:60]}, expected name:kind:count:...")
    found, at = {}, 0
    for name, count in zip(parts[::3], parts[2::3], strict=True):
        found[name.lower()] = at
        at += int(count)
    for name in ("species", "pos"):
        if name not in found:
            raise InputError(f"{where}: found Properties={text[:60]}, expected {name} among them")
    return found | {"all": at}


def _atom(
    path: Path, number: int, line: str, columns: dict[str, int]
) -> tuple[str, list[float], float, float]:
    """(label, position in Angstrom, occupancy, B in nm^2)."""
    where, fields = f"{path} line {number}", line.split()
    if len(fields) < columns["all"]:
        raise InputError(f"{where}: found {line[:60]!r}, expected {columns['all']} columns")
    at = columns["pos"]
    place = [number_of(field, where) for field in fields[at : at + 3]]
    if max(map(abs, place)) > 1e7:
        raise InputError(f"{where}: found position {place}, expected Angstrom")
    occupancy, b = 1.0, 0.0
    for name in _OCCUPANCY:
        if name in columns:
            occupancy = occupancy_of(number_of(fields[columns[name]], where), where)
    for name, factor in ((_B, 1.0), (_U, 8.0 * math.pi**2)):
        if name in columns:
            b = 0.01 * factor * number_of(fields[columns[name]], where)
    if b < 0.0:
        raise InputError(f"{where}: found a Debye-Waller factor below 0")
    return fields[columns["species"]], place, occupancy, b


def _shape(
    path: Path, vectors: np.ndarray
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(lengths in nm, angles in degrees) of a cell."""
    length = np.linalg.norm(vectors, axis=1)
    unit = vectors / length[:, None]
    angles = [
        math.degrees(math.acos(float(np.clip(unit[i] @ unit[j], -1.0, 1.0))))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    lengths = (0.1 * float(length[0]), 0.1 * float(length[1]), 0.1 * float(length[2]))
    try:
        check_cell(lengths, (angles[0], angles[1], angles[2]))
    except InputError as error:
        raise InputError(f"{path} line 2: {error}") from None
    return lengths, (angles[0], angles[1], angles[2])
