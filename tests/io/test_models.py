"""Models that other programs read."""

import ase.io
import numpy as np
import pytest

from qhrtem_jax.io.models import AtomModel, with_uncertainty, write_model
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.specimen import Atoms

SIZE = (0.55, 0.4, 2.2)


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    atoms = Atoms(
        ("Sr", "Ti", "O", "O"),
        rng.uniform(0.05, 0.95, size=(4, 3)),
        np.array([1.0, 0.9, 1.0, 0.8]),
        np.array([0.006, 0.004, 0.007, 0.007]),
    )
    write_model(tmp_path / "model.cel", AtomModel(SIZE, atoms, "a model"))
    return tmp_path / "model", atoms


@pytest.mark.parametrize("suffix", [".cel", ".cif"])
def test_our_own_reader_gets_back_what_was_written(written, suffix):
    path, atoms = written
    crystal = read_structure(path.with_suffix(suffix), 4)
    np.testing.assert_allclose(crystal.size_nm, SIZE, atol=1e-6)
    order = np.argsort(crystal.atoms.positions[:, 0])
    expected = np.argsort(atoms.positions[:, 0])
    found = crystal.atoms
    np.testing.assert_allclose(found.positions[order], atoms.positions[expected], atol=2e-6)
    np.testing.assert_allclose(found.occupancy[order], atoms.occupancy[expected], atol=1e-6)
    np.testing.assert_allclose(found.b_nm2[order], atoms.b_nm2[expected], atol=2e-6)
    assert [found.symbols[k] for k in order] == [atoms.symbols[k] for k in expected]


@pytest.mark.parametrize("suffix", [".cif", ".xyz"])
def test_ase_opens_it(written, suffix):
    path, atoms = written
    model = ase.io.read(path.with_suffix(suffix))
    assert sorted(model.get_chemical_symbols()) == sorted(atoms.symbols)
    np.testing.assert_allclose(model.cell.lengths(), 10 * np.array(SIZE), atol=1e-4)
    places = model.get_scaled_positions()
    np.testing.assert_allclose(
        places[np.argsort(places[:, 0])],
        atoms.positions[np.argsort(atoms.positions[:, 0])],
        atol=1e-5,
    )


def test_atoms_on_the_face_of_a_slice_stay_in_it(tmp_path):
    z = np.array([m + typed for m in range(7) for typed in (0.0, 0.25, 0.5, 0.75)]) / 7.0
    atoms = Atoms(("O",) * 28, np.stack([0 * z, 0 * z, z], axis=1), np.ones(28), np.full(28, 0.005))
    write_model(tmp_path / "faces.cel", AtomModel(SIZE, atoms, "faces"))
    lines = (tmp_path / "faces.cel").read_text().splitlines()[2:-1]
    slices = [int(28 * float(line.split()[3])) for line in lines]  # as Dr. Probe cuts
    assert slices == list(range(28))


def test_uncertainties_have_two_digits():
    assert with_uncertainty(0.5, 0.000999) == "0.5000(10)"
    assert with_uncertainty(0.25, 0.00123) == "0.2500(12)"
    assert with_uncertainty(0.25, np.nan) == "0.250000"


def test_uncertainties_are_in_the_cif(tmp_path):
    atoms = Atoms(
        ("Ti", "O"),
        np.array([[0.25, 0.5, 0.1], [0.5, 0.75, 0.3]]),
        np.array([1.0, 0.9]),
        np.zeros(2),
    )
    std_xy = np.array([[0.00123, 0.0004], [np.nan, 0.02]])
    model = AtomModel(SIZE, atoms, "a model", std_xy, np.array([np.nan, 0.031]))
    write_model(tmp_path / "model", model)
    rows = [line.split() for line in (tmp_path / "model.cif").read_text().splitlines()]
    titanium, oxygen = (next(r for r in rows if r[:1] == [name]) for name in ("Ti1", "O2"))
    assert titanium[2:6] == ["0.2500(12)", "0.50000(40)", "0.100000", "1.000000"]
    assert oxygen[2:6] == ["0.500000", "0.750(20)", "0.300000", "0.900(31)"]
    ours = read_structure(tmp_path / "model.cif", 4).atoms
    np.testing.assert_allclose(ours.positions, atoms.positions)
    np.testing.assert_allclose(ours.occupancy, atoms.occupancy)
    assert len(ase.io.read(tmp_path / "model.cif")) == 2
