"""Crystal structures from files (Dr. Probe's CEL, CIF, extended XYZ) and from ASE."""

from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.cel import read_cel
from qhrtem_jax.io.cif import read_cif
from qhrtem_jax.io.files import read_bytes
from qhrtem_jax.io.xyz import read_xyz
from qhrtem_jax.physics.specimen import Atoms, Crystal, UnitCell

MAX_BYTES = 32 * 2**20
"""Size of a file; a cell of as many atoms as are allowed takes less."""

_RIGHT_ANGLE_TOLERANCE_DEG = 0.01
_READERS = {".cel": read_cel, ".cif": read_cif, ".xyz": read_xyz}


def read_unit_cell(path: Path, option: str = "structure") -> UnitCell:
    """The crystal of a .cel, .cif or extended .xyz file as it is, whatever its cell's shape;
    `option` is named in errors.

    **Raises:** `InputError` for a missing, too large or damaged file, and for one that contradicts
    itself or leaves open what the crystal is.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{option}: {path} ends with {path.suffix!r}, expected .cel, .cif or .xyz")
    cell = reader(path, read_bytes(path, option, MAX_BYTES))
    if not np.any(cell.atoms.occupancy > 0.0):
        raise InputError(f"{path}: found no atom whose occupancy is above 0")
    return cell


def unit_cell_of(atoms: Any) -> UnitCell:
    """The crystal of an `ase.Atoms`, as `physics.orientation.orient` takes it; its arrays
    `occupancy` and `b_angstrom2` (B, Angstrom^2) are taken where it has them, without them
    occupancies are 1 and Debye-Waller factors 0.

    **Raises:** `InputError` for a cell that is none, or left-handed.
    """
    if not np.linalg.det(np.asarray(atoms.cell)) > 0.0:
        raise InputError("the atoms: found a cell that is none, or left-handed")
    a, b, c, *angles = (float(n) for n in atoms.cell.cellpar())
    known, count = atoms.arrays, len(atoms)
    return UnitCell(
        (0.1 * a, 0.1 * b, 0.1 * c),
        (angles[0], angles[1], angles[2]),
        Atoms(
            tuple(atoms.get_chemical_symbols()),
            np.asarray(atoms.get_scaled_positions(wrap=False), dtype=np.float64),
            np.asarray(known.get("occupancy", np.ones(count)), dtype=np.float64),
            0.01 * np.asarray(known.get("b_angstrom2", np.zeros(count)), dtype=np.float64),
        ),
    )


def right_angled(path: Path, cell: UnitCell) -> UnitCell:
    """`cell` itself, from the file `path`.

    **Raises:** `InputError` for a skew one.
    """
    if any(abs(angle - 90.0) > _RIGHT_ANGLE_TOLERANCE_DEG for angle in cell.angles_deg):
        raise InputError(
            f"{path}: found cell angles {list(cell.angles_deg)} degrees, expected right angles: "
            "give a zone axis, or an orthogonal cell with the beam along z"
        )
    return cell


def read_structure(path: Path, slices: int, option: str = "structure") -> Crystal:
    """A right-angled cell, beam along z, cut into `slices` slices.

    **Raises:** `InputError` as `read_unit_cell`, and for a skew cell.
    """
    cell = right_angled(path, read_unit_cell(path, option))
    return Crystal(cell.lengths_nm, cell.atoms, slices)
