"""Crystal structures from files: Dr. Probe CEL and CIF."""

import math
import re
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.scattering import atomic_number
from qhrtem_jax.physics.specimen import Atoms, Crystal

_ELEMENT = re.compile(r"^([A-Z][a-z]?)(?:\d*[+-]\d*)?$")
_RIGHT_ANGLE_TOLERANCE_DEG = 0.01


def read_structure(path: Path, slices: int) -> Crystal:
    """A right-angled cell, beam along z, cut into `slices` slices.

    **Raises:** `InputError` for a missing or damaged file, an unknown element or a skew cell.
    """
    if not path.is_file():
        raise InputError(f"specimen.structure: no file {path}")
    readers = {".cel": _read_cel, ".cif": _read_cif}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"specimen.structure: {path} ends with {path.suffix!r}, expected .cel or .cif"
        )
    size_nm, atoms = reader(path)
    return Crystal(size_nm, atoms, slices)


def element_of(label: str, where: str) -> str:
    """Element symbol of a label such as "Ba2+"; charges are dropped (neutral atoms scatter)."""
    match = _ELEMENT.match(label)
    if match is None:
        raise InputError(
            f"{where}: found atom label {label!r}, expected an element such as Ba or Ba2+"
        )
    try:
        atomic_number(match.group(1))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return match.group(1)


def _numbers(fields: list[str], where: str) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        raise InputError(f"{where}: found {' '.join(fields)!r}, expected numbers") from None
    if not all(math.isfinite(v) for v in values):
        raise InputError(f"{where}: found {' '.join(fields)!r}, expected finite numbers")
    return values


def _read_cel(path: Path) -> tuple[tuple[float, float, float], Atoms]:
    """Dr. Probe CEL: comment; `0 a b c alpha beta gamma` (nm, degrees); atoms; a line `*`.

    An atom line is: label x y z occupancy B, B in nm^2.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) < 3:
        raise InputError(f"{path}: found {len(lines)} lines, expected a CEL file")
    cell = _numbers(lines[1].split()[1:7], f"{path} line 2 (cell)")
    if len(cell) != 6:
        raise InputError(f"{path} line 2: found {lines[1]!r}, expected 0 a b c alpha beta gamma")
    _require_right_angles(path, cell[3:])
    rows: list[tuple[str, list[float]]] = []
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split()
        if fields[:1] == ["*"]:
            break
        if not fields:
            continue
        where = f"{path} line {number}"
        values = _numbers(fields[1:6], where)
        if len(values) != 5:
            raise InputError(f"{where}: found {line!r}, expected label x y z occupancy B")
        rows.append((element_of(fields[0], where), values))
    else:
        raise InputError(f"{path}: the closing line '*' is missing, so the file seems cut off")
    if not rows:
        raise InputError(f"{path}: found no atoms")
    table = np.array([values for _, values in rows])
    atoms = _checked_atoms(path, tuple(s for s, _ in rows), table)
    return (cell[0], cell[1], cell[2]), atoms


def _read_cif(path: Path) -> tuple[tuple[float, float, float], Atoms]:
    """CIF through gemmi; B = 8 pi^2 U, U isotropic or its mean, 0 where the file gives none."""
    import gemmi

    try:
        block = gemmi.cif.read(str(path)).sole_block()
        structure = gemmi.make_small_structure_from_block(block)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not a readable CIF file ({error})") from None
    cell = structure.cell
    if not structure.sites or cell.volume <= 1.0:
        raise InputError(f"{path}: found no unit cell with atoms")
    _require_right_angles(path, [cell.alpha, cell.beta, cell.gamma])
    sites = structure.get_all_unit_cell_sites()
    symbols = tuple(element_of(site.element.name, f"{path} atom {site.label}") for site in sites)
    table = np.array([[f % 1.0 for f in site.fract.tolist()] for site in sites])
    occupancy = [site.occ for site in sites]
    b_nm2 = [8.0 * math.pi**2 * max(_u_iso(site), 0.0) * 0.01 for site in sites]
    table = np.column_stack([table, occupancy, b_nm2])
    return (cell.a / 10.0, cell.b / 10.0, cell.c / 10.0), _checked_atoms(path, symbols, table)


def _u_iso(site) -> float:
    """U_iso in Angstrom^2, or the mean of an anisotropic one."""
    aniso = site.aniso
    return aniso.trace() / 3.0 if aniso.nonzero() else site.u_iso


def _checked_atoms(path: Path, symbols: tuple[str, ...], table: np.ndarray) -> Atoms:
    try:
        return Atoms(symbols, table[:, :3], table[:, 3], table[:, 4])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _require_right_angles(path: Path, angles_deg: list[float]) -> None:
    if any(abs(angle - 90.0) > _RIGHT_ANGLE_TOLERANCE_DEG for angle in angles_deg):
        raise InputError(
            f"{path}: found cell angles {angles_deg} degrees, expected right angles: "
            "give an orthogonal cell with the beam along z"
        )
