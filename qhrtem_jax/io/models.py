"""Atomic models written for other programs: .cel (Dr. Probe), .cif, .xyz (extended)."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qhrtem_jax.io.atomic import write_text
from qhrtem_jax.physics.specimen import Atoms


@dataclasses.dataclass(frozen=True)
class AtomModel:
    """Atoms in a right-angled cell, z along the beam; `std_xy`, `std_occupancy`: their standard
    uncertainties, as fractions, where some are known (NaN: not)."""

    size_nm: tuple[float, float, float]
    atoms: Atoms
    comment: str
    std_xy: Float[np.ndarray, "atoms 2"] | None = None
    std_occupancy: Float[np.ndarray, " atoms"] | None = None


def write_model(path: Path, model: AtomModel) -> None:
    """Write a model as `path` with each of the suffixes."""
    for suffix, text in model_texts(model).items():
        write_text(path.with_suffix(suffix), text)


def model_texts(model: AtomModel) -> dict[str, str]:
    """A model in each format, by suffix; uncertainties go into .cif."""
    known = model.size_nm, model.atoms, model.comment
    return {".cel": _cel(*known), ".cif": _cif(model), ".xyz": _xyz(*known)}


def with_uncertainty(value: float, std: float) -> str:
    """As CIF has it: 0.12345(12), with two digits of the uncertainty; six decimals without one."""
    if not np.isfinite(std) or std <= 0.0:
        return f"{value:.6f}"
    digits = int(np.clip(1 - np.floor(np.log10(std)), 0, 8))
    if round(std * 10.0**digits) == 100:  # 0.000999
        digits -= 1
    su = round(std * 10.0**digits)
    return f"{value:.{digits}f}({max(su, 1)})"


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


def _cif(model: AtomModel) -> str:
    import gemmi

    document = gemmi.cif.Document()
    block = document.add_new_block("qhrtem_jax")
    block.set_pair("_audit_creation_method", gemmi.cif.quote(model.comment))
    for axis, size in zip("abc", model.size_nm, strict=True):
        block.set_pair(f"_cell_length_{axis}", f"{10.0 * size:.6f}")
    for angle in ("alpha", "beta", "gamma"):
        block.set_pair(f"_cell_angle_{angle}", "90")
    block.set_pair("_symmetry_space_group_name_H-M", "'P 1'")
    block.set_pair("_space_group_IT_number", "1")
    block.init_loop("_space_group_symop_", ["operation_xyz"]).add_row(["'x, y, z'"])
    names = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy", "B_iso_or_equiv"]
    loop = block.init_loop("_atom_site_", names)
    count = len(model.atoms.symbols)
    std_xy = np.full((count, 2), np.nan) if model.std_xy is None else model.std_xy
    std_n = np.full(count, np.nan) if model.std_occupancy is None else model.std_occupancy
    rows = zip(_rows(model.atoms), std_xy, std_n, strict=True)
    for number, ((symbol, xyz, occupancy, b_nm2), std, std_occupancy) in enumerate(rows, start=1):
        places = [with_uncertainty(*pair) for pair in zip(xyz, (*std, np.nan), strict=True)]
        share = with_uncertainty(occupancy, std_occupancy)
        loop.add_row([f"{symbol}{number}", symbol, *places, share, f"{100.0 * b_nm2:.6f}"])
    return document.as_string()
