"""Crystals from Dr. Probe's CEL files."""

import io
import itertools
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.elements import element_of
from qhrtem_jax.io.sites import MAX_ATOMS, ListedAtoms, atoms_on_sites, number_of, occupancy_of
from qhrtem_jax.physics.specimen import UnitCell, check_cell, metric_of

_MAX_LINES = MAX_ATOMS + 1000


def read_cel(path: Path, data: bytes) -> UnitCell:
    """Dr. Probe CEL: comment; `0 a b c alpha beta gamma` (nm, degrees); atoms; a line `*`.

    An atom line is: label x y z occupancy B, B in nm^2, and up to three numbers not used.

    **Raises:** `InputError` where the file is damaged or cut off.
    """
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace")
    lines = [line.rstrip("\n") for line in itertools.islice(text, _MAX_LINES + 1)]
    if len(lines) > _MAX_LINES:
        raise InputError(f"{path}: found more lines, expected at most {_MAX_LINES}")
    if len(lines) < 3:
        raise InputError(f"{path}: found {len(lines)} lines, expected a CEL file")
    lengths, angles = _cell(path, lines[1])
    rows: list[tuple[str, list[float], int]] = []
    end = len(lines)
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split()
        if fields[:1] == ["*"]:
            end = number
            break
        if not fields:
            continue
        where = f"{path} line {number}"
        if len(rows) == MAX_ATOMS:
            raise InputError(f"{where}: found more atoms, expected at most {MAX_ATOMS}")
        if not 6 <= len(fields) <= 9:
            raise InputError(f"{where}: found {line!r}, expected label x y z occupancy B")
        values = [number_of(field, where) for field in fields[1:]]
        if max(map(abs, values[:3])) > 1e4:
            raise InputError(f"{where}: found position {values[:3]}, expected fractions")
        values[3] = occupancy_of(values[3], where)
        if values[4] < 0.0:
            raise InputError(f"{where}: found B {values[4]:g} nm^2, expected 0 or more")
        rows.append((fields[0], values, number))
    else:
        raise InputError(f"{path}: the closing line '*' is missing, so the file seems cut off")
    behind = [n for n, line in enumerate(lines[end:], start=end + 1) if len(line.split()) >= 6]
    if behind:
        raise InputError(
            f"{path} line {behind[0]}: found an atom behind the closing line '*', expected none"
        )
    if not rows:
        raise InputError(f"{path}: found no atoms")
    table = np.array([values[:5] for _, values, _ in rows])
    listed = ListedAtoms(
        [f"the atom of line {number}" for _, _, number in rows],
        [label for label, _, _ in rows],
        [element_of(label, f"{path} line {number}") for label, _, number in rows],
        table[:, :3],
        table[:, 3],
        table[:, 4],
    )
    return UnitCell(lengths, angles, atoms_on_sites(str(path), metric_of(lengths, angles), listed))


def _cell(path: Path, line: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    where = f"{path} line 2 (cell)"
    values = [number_of(field, where) for field in line.split()]
    if len(values) != 7 or values[0] != 0.0:
        raise InputError(f"{where}: found {line[:80]!r}, expected 0 a b c alpha beta gamma")
    _, a, b, c, alpha, beta, gamma = values
    try:
        check_cell((a, b, c), (alpha, beta, gamma))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return (a, b, c), (alpha, beta, gamma)
