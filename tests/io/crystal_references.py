"""CIF files that other packages bring, and how ASE and pymatgen read them."""

import dataclasses
import importlib
import warnings
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Reading:
    """A crystal as a program reads it: nm, degrees, and (element, fractions, occupancy)."""

    lengths_nm: np.ndarray
    angles_deg: np.ndarray
    atoms: list[tuple[str, np.ndarray, float]]


def packaged_cifs() -> dict[str, Path]:
    """CIF files of the packages `crystals` and `ase`, by name."""
    found = {}
    for package, folder in (
        ("crystals", "cifs"),
        ("crystals", "tests/data"),
        ("ase", "test/testdata/minerals"),
    ):
        module = importlib.util.find_spec(package)
        if module is None or module.origin is None:
            continue
        for path in sorted((Path(module.origin).parent / folder).glob("*.cif")):
            found[path.stem] = path
    return found


def by_ase(path: Path) -> Reading:
    import ase.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = ase.io.read(path, fractional_occupancies=True)
    atoms.wrap()
    places = atoms.get_scaled_positions()
    rows = []
    kinds = atoms.arrays.get("spacegroup_kinds")
    for k, symbol in enumerate(atoms.get_chemical_symbols()):
        shared = atoms.info.get("occupancy", {}).get(str(kinds[k])) if kinds is not None else None
        for element, occupancy in (shared or {symbol: 1.0}).items():
            rows.append((element, places[k], float(occupancy)))
    cell = atoms.cell.cellpar()
    return Reading(cell[:3] / 10.0, cell[3:], rows)


def by_pymatgen(path: Path) -> Reading:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = CifParser(path).parse_structures(primitive=False)[0]
    rows = [
        (_element(species), site.frac_coords, float(occupancy))
        for site in structure
        for species, occupancy in site.species.items()
    ]
    lattice = structure.lattice
    return Reading(np.array(lattice.abc) / 10.0, np.array(lattice.angles), rows)


def _element(species) -> str:
    symbol = getattr(species, "element", species).symbol
    return "H" if symbol == "D" else symbol


def by_us(cell) -> Reading:
    atoms = cell.atoms
    rows = list(zip(atoms.symbols, atoms.positions, atoms.occupancy.tolist(), strict=True))
    return Reading(np.array(cell.lengths_nm), np.array(cell.angles_deg), rows)


def differences(ours: Reading, other: Reading, within_nm: float = 0.003) -> list[str]:
    """What is not the same: cell, elements, positions but for lattice translations, occupancy."""
    found = []
    if not np.allclose(ours.lengths_nm, other.lengths_nm, rtol=1e-5):
        found.append(f"lengths {ours.lengths_nm} and {other.lengths_nm} nm")
    if not np.allclose(ours.angles_deg, other.angles_deg, atol=1e-3):
        found.append(f"angles {ours.angles_deg} and {other.angles_deg} degrees")
    if len(ours.atoms) != len(other.atoms):
        return [*found, f"{len(ours.atoms)} and {len(other.atoms)} atoms"]
    left = list(range(len(other.atoms)))
    for symbol, place, occupancy in ours.atoms:
        for k in left:
            theirs = other.atoms[k]
            apart = (theirs[1] - place - np.rint(theirs[1] - place)) * ours.lengths_nm
            if theirs[0] == symbol and np.abs(apart).max() < within_nm:
                if abs(theirs[2] - occupancy) > 2e-3:
                    found.append(f"{symbol} at {place}: occupancies {occupancy} and {theirs[2]}")
                left.remove(k)
                break
        else:
            found.append(f"{symbol} at {place} is missing")
    return found
