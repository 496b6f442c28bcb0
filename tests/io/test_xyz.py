"""Crystals from extended XYZ files, as this program and ASE write them."""

import ase.build
import ase.io
import numpy as np
import pytest
from ase.spacegroup import crystal

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.models import AtomModel, write_model
from qhrtem_jax.io.structures import read_unit_cell, unit_cell_of
from tests.physics import crystal as sto

GOOD = """2
Lattice="3.9 0 0 0 4.0 0 0 0 4.1" Properties=species:S:1:pos:R:3:occupancy:R:1:u_angstrom2:R:1
Ba 0.0 0.0 0.0 0.75 0.005
O 1.95 2.0 -1.025 1 0.01
"""


def read(folder, text):
    path = folder / "crystal.xyz"
    path.write_text(text)
    return read_unit_cell(path)


def test_numbers_are_read_with_their_units(tmp_path):
    cell = read(tmp_path, GOOD)
    np.testing.assert_allclose(cell.lengths_nm, (0.39, 0.4, 0.41))
    assert cell.atoms.symbols == ("Ba", "O")
    np.testing.assert_allclose(np.mod(cell.atoms.positions[1], 1.0), (0.5, 0.5, 0.75))
    np.testing.assert_allclose(cell.atoms.occupancy, (0.75, 1.0))
    np.testing.assert_allclose(cell.atoms.b_nm2, 8 * np.pi**2 * np.array([5e-5, 1e-4]))


def test_what_is_written_is_read(tmp_path):
    atoms, size = sto.crystal().atoms, sto.crystal().size_nm
    write_model(tmp_path / "model", AtomModel(size, atoms, "a model"))
    cell = read_unit_cell(tmp_path / "model.xyz")
    np.testing.assert_allclose(cell.lengths_nm, size, atol=1e-6)
    assert cell.atoms.symbols == atoms.symbols
    apart = cell.atoms.positions - atoms.positions
    np.testing.assert_allclose(apart - np.rint(apart), 0.0, atol=2e-5)
    np.testing.assert_allclose(cell.atoms.b_nm2, atoms.b_nm2, atol=1e-7)


@pytest.mark.parametrize(
    "atoms",
    [
        ase.build.bulk("GaN", "wurtzite", a=3.19, c=5.19),
        crystal(["Zr", "O"], [(0.2754, 0.0395, 0.2083), (0.07, 0.3317, 0.3447)], spacegroup=14,
                cellpar=[5.15, 5.21, 5.32, 90, 99.2, 90]),
    ],
    ids=["hexagonal", "monoclinic"],
)  # fmt: skip
def test_skew_cells_of_ase(tmp_path, atoms):
    ase.io.write(tmp_path / "crystal.xyz", atoms, format="extxyz")
    for cell in (read_unit_cell(tmp_path / "crystal.xyz"), unit_cell_of(atoms)):
        np.testing.assert_allclose(10 * np.array(cell.lengths_nm), atoms.cell.lengths(), atol=1e-6)
        np.testing.assert_allclose(cell.angles_deg, atoms.cell.angles(), atol=1e-5)
        assert cell.atoms.symbols == tuple(atoms.get_chemical_symbols())
        apart = cell.atoms.positions - atoms.get_scaled_positions()
        np.testing.assert_allclose(apart - np.rint(apart), 0.0, atol=1e-7)


def test_a_left_handed_cell_of_ase_is_refused():
    atoms = ase.Atoms("O", cell=[[4, 0, 0], [0, 4, 0], [0, 0, -4]], pbc=True)
    with pytest.raises(InputError, match="left-handed"):
        unit_cell_of(atoms)


def test_occupancies_of_ase():
    atoms = ase.Atoms("SrO", cell=[4, 4, 4], positions=[(0, 0, 0), (2, 2, 2)], pbc=True)
    atoms.set_array("occupancy", np.array([0.5, 1.0]))
    atoms.set_array("b_angstrom2", np.array([0.4, 0.7]))
    cell = unit_cell_of(atoms)
    np.testing.assert_allclose(cell.atoms.occupancy, (0.5, 1.0))
    np.testing.assert_allclose(cell.atoms.b_nm2, (0.004, 0.007))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\n", "3\n", "announces 3 atoms, holds 2"),
        ("2\n", "two\n", "line 1: found 'two', expected the number of atoms"),
        ("2\n", "0\n", "found 0 atoms"),
        ("Lattice=", "Lattic=", 'no Lattice="..."'),
        (" 4.1", "", "a Lattice of 8 numbers"),
        ("3.9 0 0", "-3.9 0 0", "no right-handed cell"),
        ("3.9 0 0", "0.39 0 0", "expected 0.1 nm or more"),
        ("pos:R:3", "place:R:3", "expected pos among them"),
        ("pos:R:3", "pos:R", "expected name:kind:count"),
        ("0.75 0.005", "0.75", "line 3: found 'Ba 0.0 0.0 0.0 0.75', expected 6 columns"),
        ("0.75", "1.75", "line 3: found occupancy 1.75"),
        ("0.005", "-0.005", "Debye-Waller factor below 0"),
        ("Ba", "Xx", "line 3: unknown element 'Xx'"),
        ("1.95", "1e999", "finite number"),
        ("1.95 2.0 -1.025", "0 0 0.001", "sum to 1.75"),
    ],
)
def test_what_is_no_crystal_is_named(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as refusal:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "crystal.xyz" in str(refusal.value)
