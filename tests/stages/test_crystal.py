"""The crystal of a run: planes in slices, Debye-Waller factors, directions."""

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.stages import run_settings

# Kwei et al., J. Phys. Chem. 97, 2368 (1993), rounded: oxygen lies off the cations' planes; the
# origin at no special place
SITES = (
    ("Ba", 0.0, 0.0, 0.07),
    ("Ti", 0.5, 0.5, 0.5915),
    ("O", 0.5, 0.5, 0.0467),
    ("O", 0.5, 0.0, 0.5595),
    ("O", 0.0, 0.5, 0.5595),
)


@pytest.fixture
def cif(tmp_path):
    """Tetragonal BaTiO3, all atoms listed, without Debye-Waller factors."""
    lines = ["data_x", "_cell_length_a 3.9945", "_cell_length_b 3.9945", "_cell_length_c 4.0335"]
    lines += [f"_cell_angle_{name} 90" for name in ("alpha", "beta", "gamma")]
    lines += ["_space_group_name_H-M_alt 'P 1'", "loop_", "_atom_site_label"]
    lines += ["_atom_site_type_symbol", *(f"_atom_site_fract_{axis}" for axis in "xyz")]
    lines += [f"{s}{k} {s} {x} {y} {z}" for k, (s, x, y, z) in enumerate(SITES)]
    path = tmp_path / "tetragonal.cif"
    path.write_text("\n".join([*lines, ""]))
    return path


def loaded(path, **specimen):
    reader = Reader()
    known = {"structure": str(path), **specimen}
    return load_crystal(run_settings({"stage": "imaging", "specimen": known}), reader), reader


@pytest.mark.parametrize("specimen", [{}, {"zone": [0, 0, 1], "up": [0, 1, 0]}])
def test_planes_that_are_rumpled_stay_whole(cif, specimen):
    crystal, _ = loaded(cif, **specimen)
    assert crystal.slices == 2
    slices = crystal.slice_of_atoms()
    kinds = np.array(crystal.atoms.symbols)
    barium, titanium = slices[kinds == "Ba"], slices[kinds == "Ti"]
    assert barium != titanium
    assert sorted(slices[kinds == "O"]) == sorted([*barium, *titanium, *titanium])
    # each plane about the middle of its slice
    off = np.mod(crystal.atoms.positions[:, 2] * crystal.slices, 1.0) - 0.5
    assert np.abs(off).max() * crystal.slice_thickness_nm < 0.012


def test_missing_debye_waller_factors_are_assumed_and_said(cif):
    crystal, reader = loaded(cif)
    assert set(crystal.atoms.b_nm2.tolist()) == {0.005}
    assert any("no Debye-Waller factor of Ba, O, Ti" in warning for warning in reader.warnings())
    crystal, reader = loaded(cif, b_nm2={"Ba": 0.004, "Ti": 0.006, "O": 0.007})
    known = dict(zip(crystal.atoms.symbols, crystal.atoms.b_nm2.tolist(), strict=True))
    assert known == {"Ba": 0.004, "Ti": 0.006, "O": 0.007}
    assert reader.warnings() == ()


@pytest.mark.parametrize(
    ("specimen", "message"),
    [
        ({"zone": [0, 0, 1]}, r"specimen.up: none given"),
        ({"up": [0, 0, 1]}, r"specimen.zone: none given"),
        ({"zone": [0, 0, 1], "up": [0, 0, 1]}, r"specimen: up: found \[0, 0, 1\]"),
        ({"b_nm2": {"Sr": 0.004}}, r"specimen.b_nm2: found Sr, expected some of Ba, O, Ti"),
    ],
)
def test_what_cannot_be_is_refused(cif, specimen, message):
    with pytest.raises(InputError, match=message):
        loaded(cif, **specimen)


def test_a_crystal_begins_with_the_slice_that_is_named(cif):
    first, _ = loaded(cif)
    other, _ = loaded(cif, entrance=1)
    np.testing.assert_array_equal(other.slice_of_atoms(), 1 - first.slice_of_atoms())
    np.testing.assert_array_equal(other.atoms.positions[:, :2], first.atoms.positions[:, :2])
    fine, later = (loaded(cif, slices=5, entrance=k)[0].slice_of_atoms() for k in (0, 1))
    np.testing.assert_array_equal(later, (fine - 1) % 5)
    with pytest.raises(InputError, match=r"specimen.entrance: found 2, expected 0 to 1 or auto"):
        loaded(cif, entrance=2)
    with pytest.raises(InputError, match=r"specimen.entrance: found 'last', expected a number"):
        loaded(cif, entrance="last")
