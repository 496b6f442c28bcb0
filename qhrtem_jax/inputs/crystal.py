"""The crystal of a run: read, with the beam along z, cut into slices."""

import dataclasses
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings, SpecimenSettings
from qhrtem_jax.io.structures import read_unit_cell, right_angled
from qhrtem_jax.physics.orientation import equal_slices, orient
from qhrtem_jax.physics.specimen import Crystal, UnitCell

ASSUMED_B_NM2 = 0.005
"""Debye-Waller factor of atoms of which a CIF gives none: oxides at room temperature have some
0.003 to 0.007 nm^2."""

FAR_NM = 0.03
"""Planes that lie further than this from the middle of their slice are spoken of."""


def load_crystal(settings: Settings, reader: Reader) -> Crystal:
    """The specimen's cell, as the beam sees it."""
    known = settings.specimen
    if known.structure is None:
        raise InputError("specimen.structure: none given, expected a .cel, .cif or .xyz file")
    _check_directions(known)
    _check_phonons(settings)
    b_nm2 = tuple((known.b_nm2 or {}).items())
    cut = known.slices, known.entrance
    key = ("crystal", known.structure, known.zone, known.up, known.max_strain, b_nm2, *cut)
    crystal = reader.once(key, lambda: _read(known, reader))
    size.check_cell(crystal, known.structure)
    return crystal


def _check_directions(known: SpecimenSettings) -> None:
    for name, found, other in (("zone", known.zone, known.up), ("up", known.up, known.zone)):
        if found is None and other is not None:
            raise InputError(f"specimen.{name}: none given, expected [u,v,w] beside the other one")


def _check_phonons(settings: Settings) -> None:
    known = settings.specimen
    if known.phonons == "frozen" and settings.stage != "simulate":
        raise InputError(
            f"specimen.phonons: found frozen, expected none or absorptive in {settings.stage}: "
            "means over displaced lattices are formed by simulate"
        )
    cells = None if isinstance(known.phonon_cells, str) else list(known.phonon_cells)
    for name, found in (("trajectory", known.trajectory), ("phonon_cells", cells)):
        if known.phonons != "frozen" and found is not None:
            raise InputError(
                f"specimen.{name}: found {found} with specimen.phonons={known.phonons}, "
                "expected specimen.phonons=frozen"
            )


def _read(known: SpecimenSettings, reader: Reader) -> Crystal:
    assert known.structure is not None
    path = Path(known.structure)
    with named("specimen.structure"):
        cell = read_unit_cell(path, "specimen.structure")
    cell = _with_vibrations(cell, known, reader)
    if known.zone is None or known.up is None:
        with named("specimen.structure"):
            crystal = right_angled(path, cell)
    else:
        with named("specimen"):
            crystal = orient(cell, known.zone, known.up, known.max_strain)
        if crystal.strain > 1e-6:
            reader.warn(
                f"the crystal is strained by {100.0 * crystal.strain:.2f} % so that its cell along "
                f"{list(known.zone)} has right angles"
            )
    atoms, length = crystal.atoms, crystal.lengths_nm
    if not isinstance(known.slices, str):
        return _begun(Crystal(length, atoms, known.slices), known)
    slices, shift, error = equal_slices(atoms.positions[:, 2], length[2])
    places = atoms.positions + np.array([0.0, 0.0, shift])  # planes in the middle of their slices
    atoms = dataclasses.replace(atoms, positions=np.mod(places, 1.0))
    if error > FAR_NM:
        reader.warn(
            f"specimen.slices=auto: {slices} slices of {length[2] / slices:.3f} nm, in which atoms "
            f"lie up to {error:.3f} nm from the middle of theirs"
        )
    return _begun(Crystal(length, atoms, slices), known)


def _begun(crystal: Crystal, known: SpecimenSettings) -> Crystal:
    """The crystal beginning with the slice that the settings name."""
    first = 0 if isinstance(known.entrance, str) else known.entrance
    if first >= crystal.slices:
        raise InputError(
            f"specimen.entrance: found {first}, expected 0 to {crystal.slices - 1} or auto"
        )
    places = crystal.atoms.positions - np.array([0.0, 0.0, first / crystal.slices])
    atoms = dataclasses.replace(crystal.atoms, positions=places)
    return crystal if first == 0 else dataclasses.replace(crystal, atoms=atoms)


def _with_vibrations(cell: UnitCell, known: SpecimenSettings, reader: Reader) -> UnitCell:
    """The cell with the Debye-Waller factors that are given, and assumed ones where none are."""
    atoms, given = cell.atoms, known.b_nm2 or {}
    unknown = set(given) - set(atoms.symbols)
    if unknown:
        raise InputError(
            f"specimen.b_nm2: found {', '.join(sorted(unknown))}, expected some of "
            f"{', '.join(sorted(set(atoms.symbols)))}"
        )
    pairs = zip(atoms.symbols, atoms.b_nm2, strict=True)
    values = np.array([given.get(symbol, float(b)) for symbol, b in pairs])
    assert known.structure is not None
    missing = np.zeros(len(values), dtype=bool)
    if Path(known.structure).suffix.lower() != ".cel":  # a .cel that says 0 means it
        missing = (values == 0.0) & np.array([s not in given for s in atoms.symbols])
    if missing.any():
        kinds = sorted({s for s, none in zip(atoms.symbols, missing, strict=True) if none})
        reader.warn(
            f"{known.structure} gives no Debye-Waller factor of {', '.join(kinds)}: B is taken as "
            f"{ASSUMED_B_NM2} nm^2; specimen.b_nm2={{{kinds[0]}: {ASSUMED_B_NM2}}} sets it"
        )
    values = np.where(missing, ASSUMED_B_NM2, values)
    return dataclasses.replace(cell, atoms=dataclasses.replace(atoms, b_nm2=values))
