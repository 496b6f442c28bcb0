"""Atomic models written for other programs: .cel (Dr. Probe), .cif, .xyz (extended)."""

from pathlib import Path

import numpy as np

from qhrtem_jax.io.atomic import write_text
from qhrtem_jax.physics.specimen import Atoms


def write_model(
    path: Path, size_nm: tuple[float, float, float], atoms: Atoms, comment: str
) -> None:
    """Write a right-angled cell as `path` with each of the suffixes; z is along the beam."""
    for suffix, text in model_texts(size_nm, atoms, comment).items():
        write_text(path.with_suffix(suffix), text)


def model_texts(size_nm: tuple[float, float, float], atoms: Atoms, comment: str) -> dict[str, str]:
    """A right-angled cell in each format, by suffix; z is along the beam."""
    writers = {".cel": _cel, ".cif": _cif, ".xyz": _xyz}
    return {suffix: writer(size_nm, atoms, comment) for suffix, writer in writers.items()}


def _rows(atoms: Atoms):
    return zip(atoms.symbols, atoms.positions, atoms.occupancy, atoms.b_nm2, strict=True)


def _cel(size_nm: tuple[float, float, float], atoms: Atoms, comment: str) -> str:
    lines = [f"# {comment}", " 0 " + " ".join(f"{s:.6f}" for s in size_nm) + " 90 90 90"]
    for symbol, (x, y, z), occupancy, b in _rows(atoms):
        # rounded up: an atom on the lower face of a slice belongs to it, not to the one before
        z = np.ceil(1e8 * z - 1e-3) / 1e8
        lines.append(f" {symbol} {x:.6f} {y:.6f} {z:.8f} {occupancy:.6f} {b:.6f} 0 0 0")
    return "\n".join([*lines, "*", ""])


def _xyz(size_nm: tuple[float, float, float], atoms: Atoms, comment: str) -> str:
    a, b, c = (10.0 * s for s in size_nm)
    lattice = f"{a:.6f} 0 0 0 {b:.6f} 0 0 0 {c:.6f}"
    properties = "species:S:1:pos:R:3:occupancy:R:1:b_angstrom2:R:1"
    head = f'Lattice="{lattice}" Properties={properties} pbc="T T T" comment="{comment}"'
    lines = [str(len(atoms.symbols)), head]
    for symbol, (x, y, z), occupancy, b_nm2 in _rows(atoms):
        lines.append(
            f"{symbol} {a * x:.5f} {b * y:.5f} {c * z:.5f} {occupancy:.5f} {100 * b_nm2:.5f}"
        )
    return "\n".join([*lines, ""])


def _cif(size_nm: tuple[float, float, float], atoms: Atoms, comment: str) -> str:
    import gemmi

    document = gemmi.cif.Document()
    block = document.add_new_block("qhrtem_jax")
    block.set_pair("_audit_creation_method", gemmi.cif.quote(comment))
    for axis, size in zip("abc", size_nm, strict=True):
        block.set_pair(f"_cell_length_{axis}", f"{10.0 * size:.6f}")
    for angle in ("alpha", "beta", "gamma"):
        block.set_pair(f"_cell_angle_{angle}", "90")
    block.set_pair("_symmetry_space_group_name_H-M", "'P 1'")
    block.set_pair("_space_group_IT_number", "1")
    block.init_loop("_space_group_symop_", ["operation_xyz"]).add_row(["'x, y, z'"])
    names = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy", "B_iso_or_equiv"]
    loop = block.init_loop("_atom_site_", names)
    for number, (symbol, xyz, occupancy, b_nm2) in enumerate(_rows(atoms), start=1):
        numbers = [f"{value:.6f}" for value in (*np.asarray(xyz), occupancy, 100.0 * b_nm2)]
        loop.add_row([f"{symbol}{number}", symbol, *numbers])
    return document.as_string()
