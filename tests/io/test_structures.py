"""Crystals are read as they are, or not at all."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.sites import MAX_ATOMS, close_pairs
from qhrtem_jax.io.structures import MAX_BYTES, read_structure, read_unit_cell
from qhrtem_jax.physics.specimen import Atoms, UnitCell, metric_of
from tests.conftest import SHARED
from tests.io.good_structures import BTO_CEL, LINBO3, STO, changed, read_text, without

OPERATORS = "loop_\n_space_group_symop_operation_xyz\n"
STO_ATOMS = STO[STO.index("loop_") :]
HEAD = STO[: STO.index("loop_")]
BARE = without(STO, "_chemical_formula_sum", "_cell_formula_units_Z")
NO_GROUP = without(BARE, "_symmetry", "_space_group")
TIO2 = changed(
    without(NO_GROUP, "Sr1", "Ti1", "O1"),
    ("3.905(1)", "4.594"),
    ("3.905(1)", "4.594"),
    ("3.905(1)", "2.959"),
)
SKEW = changed(LINBO3, ("R 3 c :H", "P 1"), ("161", "1"))
MIXED = "Sr1 Sr2+ 0 0 0 0.4 0.0079\nBa1 Ba2+ 0 0 0 0.6 0.0079"
U_TO_B = 8.0 * np.pi**2 * 0.01


def rows(cell, symbol):
    which = np.array(cell.atoms.symbols) == symbol
    return cell.atoms.positions[which]


def composition(cell):
    return {s: cell.atoms.symbols.count(s) for s in sorted(set(cell.atoms.symbols))}


REFUSED = {
    "length ?": (changed(STO, ("a 3.905(1)", "a ?")), "_cell_length_a: found '\\?'"),
    "length missing": (without(STO, "_cell_length_b"), "_cell_length_b: found no such item"),
    "length negative": (changed(STO, ("b 3.905(1)", "b -3.905")), "cell lengths"),
    "length nan": (changed(STO, ("b 3.905(1)", "b nan")), "_cell_length_b: found 'nan'"),
    "length huge": (changed(STO, ("b 3.905(1)", "b 1e999")), "finite"),
    "length with half an uncertainty": (changed(STO, ("c 3.905(1)", "c 3.905(1")), "_cell_length"),
    "angle .": (changed(STO, ("alpha 90", "alpha .")), "_cell_angle_alpha: found '\\.'"),
    "angle missing": (without(STO, "_cell_angle_gamma"), "_cell_angle_gamma: found no such"),
    "angle no number": (changed(STO, ("beta 90", "beta 9O")), "_cell_angle_beta: found '9O'"),
    "angles of no cell": (
        changed(SKEW, ("alpha 90", "alpha 30"), ("beta 90", "beta 30"), ("120", "100")),
        "do not close",
    ),
    "no symmetry": (NO_GROUP, "found none; expected the symmetry"),
    "unknown symbol": (
        changed(without(BARE, "_space_group_IT"), ("P m -3 m", "P q -3 m")),
        "P q -3 m', which is unknown",
    ),
    "number beyond": (
        changed(without(BARE, "_symmetry"), (" 221", " 231")),
        "found '231', expected a number from 1 to 230",
    ),
    "symbol against number": (changed(BARE, (" 221", " 225")), "225 contradicts"),
    "damaged operator": (changed(LINBO3, ("-y,x-y,z\n", "-y,x-y,q\n")), "found '-y,x-y,q'"),
    "singular operator": (changed(LINBO3, ("-y,x-y,z\n", "-y,-y,z\n")), "damaged or listed twice"),
    "half an operator": (changed(LINBO3, ("-y,x-y,z\n", "-y,x-y\n")), "expected an operator"),
    "wrong operator": (changed(LINBO3, ("-y,x-y,z\n", "-y,x-y,-z\n")), "make no group"),
    "missing operators": (
        changed(LINBO3, ("-x+y,-x,z\n", "")),
        "17 operators make no group",
    ),
    "operators against number": (changed(LINBO3, ("161", "160")), "160 contradicts"),
    "operators against symbol": (changed(LINBO3, ("R 3 c :H", "R 3 m :H")), "contradicts"),
    "operators of another group": (
        changed(BARE, ("loop_", OPERATORS + "x,y,z\nloop_")),
        "contradicts _space_group_symop_operation_xyz",
    ),
    "symmetry against the cell": (changed(BARE, ("c 3.905(1)", "c 4.1")), "lengths and angles"),
    "axes against the cell": (changed(LINBO3, ("gamma 120", "gamma 90")), "lengths and angles"),
    "origin left open": (
        changed(without(BARE, "Sr1", "Ti1"), ("P m -3 m", "F d -3 m"), (" 221", " 227"))
        .replace("3.905(1)", "12.3")
        .replace("0.5 0.5 0 1", "0.21 0.21 0.21 1"),
        "leaves open whether F d -3 m:1 or F d -3 m:2",
    ),
    "modulated": (
        changed(STO, ("data_cubic\n", "data_cubic\n_cell_modulation_dimension 1\n")),
        "periodic",
    ),
    "magnetic": (
        changed(
            NO_GROUP,
            ("loop_", "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\nloop_"),
        ),
        "ordinary space group",
    ),
    "loop one short": (changed(STO, (" 0.0091\n", "\n")), "Wrong number of values"),
    "cut in a number": (STO[:-2], "has no end"),
    "cut in a loop head": (STO[: STO.index("_atom_site_U")], "no rows|found 0 blocks"),
    "cut in a quote": (
        STO[: STO.index("-3 m'")] + "\n" + STO_ATOMS,
        "unterminated|readable CIF",
    ),
    "cut in a text field": (STO + "_publ_section\n;\nTo be\n", "unterminated|readable CIF"),
    "last atom lost": (without(STO, "O1"), "found 0 atoms of O in the cell, expected 3"),
    "last atom lost, tensor there": (without(LINBO3, "O1 O"), "found 'O1', which is none"),
    "formula with too few": (changed(STO, ("O3 Sr Ti", "O2 Sr Ti")), "found 3 atoms of O"),
    "wrong Z": (changed(STO, ("'O3 Sr Ti'", "'O6 Sr2 Ti2'")), "_chemical_formula_sum: found"),
    "density": (
        changed(BARE, ("data_cubic\n", "data_cubic\n_exptl_crystal_density_diffrn 4.2\n")),
        "_exptl_crystal_density_diffrn: found 4.2 g/cm\\^3, expected 5.1",
    ),
    "no atoms": (STO[: STO.index("loop_")], "found 0 blocks with atoms"),
    "two crystals": (STO + STO.replace("data_cubic", "data_again"), "data_cubic, data_again"),
    "no label": (
        changed(STO, ("_atom_site_label", "_atom_site_x"), ("_type_symbol", "_y")),
        "no _atom_site_label",
    ),
    "atom twice": (
        STO.replace("Sr1 Sr2+ 0 0 0 1", "Sr1 Sr2+ 0 0 0 1 0\nSr2 Sr2+ 1 0 0 1"),
        "atom Sr2 is where atom Sr1 is",
    ),
    "atom twice, half": (
        BARE.replace("Sr1 Sr2+ 0 0 0 1 0.0079", "Sr1 Sr2+ 0 0 0 .5 0\nSr2 Sr2+ 0 0 0 .5 0"),
        "atom Sr2 is where atom Sr1 is",
    ),
    "site too full": (
        changed(BARE, ("Sr1 Sr2+ 0 0 0 1 0.0079", MIXED.replace("0.6", "0.7"))),
        "sum to 1.1, expected at most 1",
    ),
    "atoms too close": (changed(BARE, ("0.5 0.5 0 1", "0.5 0.5 0.45 1")), "sum to 2; expected"),
    "occupancy": (changed(STO, ("0.5 0.5 0 1", "0.5 0.5 0 1.2")), "O1: found occupancy 1.2"),
    "negative occupancy": (changed(STO, ("0.5 0.5 0 1", "0.5 0.5 0 -.2")), "found occupancy -0.2"),
    "occupancy ?": (changed(STO, ("0.5 0.5 0 1", "0.5 0.5 0 ?")), "occupancy of O1: found '\\?'"),
    "negative U": (changed(STO, ("0.0091", "-0.0091")), "U_iso_or_equiv of O1: found -0.0091"),
    "negative tensor": (changed(LINBO3, ("0.0081 0.0066", "-0.05 -0.06")), "U_ij of O1: found"),
    "half a tensor": (changed(LINBO3, ("0.0081 0.0066", "? 0.0066")), "U_ij of O1: found '\\?'"),
    "nan": (changed(STO, ("0.5 0.5 0 1", "nan 0.5 0 1")), "fract_x of O1: found 'nan'"),
    "no position": (changed(STO, ("0.5 0.5 0 1", "? ? ? 1")), "fract_x of O1: found '\\?'"),
    "decimal comma": (changed(STO, ("0.5 0.5 0 1", "0,5 0.5 0 1")), "found '0,5'"),
    "axis missing": (changed(STO, ("_fract_z", "_fract_w")), "fract_z: found no such item"),
    "element": (changed(STO, ("O2-", "Xx2-")), "unknown element 'Xx'"),
    "label of no element": (
        without(BARE, "_atom_site_type_symbol").replace(" Sr2+", "").replace(" Ti4+", "")
        .replace("O1 O2-", "Wat1"),
        "label 'Wat1' \\(no element\\)",
    ),
    "ambiguous label": (
        without(BARE, "_atom_site_type_symbol").replace("Sr1 Sr2+", "SR1").replace(" Ti4+", "")
        .replace(" O2-", ""),
        "label 'SR1' \\(S or Sr\\?\\)",
    ),
    "Cartesian without axes": (STO.replace("_fract_", "_Cartn_"), "_atom_site_Cartn_ coordinates"),
    "disorder too full": (
        changed(BARE, ("U_iso_or_equiv", "disorder_group"))
        .replace("0.0079", ".").replace("0.0056", "1").replace("0.0091", "2"),
        "groups 1, 2 of assembly . sum to 2",
    ),
    "disorder about an element": (
        changed(BARE, ("U_iso_or_equiv", "disorder_group"))
        .replace("0.0079", ".").replace("0.0056", ".").replace("0.0091", "-1"),
        "expected at most 0.5",
    ),
    "tag twice": (STO.replace("_cell_length_b", "_cell.length_a"), "_cell_length_a: found twice"),
    "not text": (b"\x89PNG\x00\xff\x00" * 9, "readable CIF"),
    "empty": ("", "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_cif_is_refused_by_name(tmp_path, fault):
    text, message = REFUSED[fault]
    with pytest.raises(InputError, match=message) as refusal:
        read_text(tmp_path, text)
    assert str(tmp_path / "crystal.cif") in str(refusal.value)


def test_the_good_files_are_good(tmp_path):
    sto, linbo3 = read_text(tmp_path, STO), read_text(tmp_path, LINBO3)
    assert composition(sto) == {"O": 3, "Sr": 1, "Ti": 1}
    assert composition(linbo3) == {"Li": 6, "Nb": 6, "O": 18}
    np.testing.assert_allclose(sto.atoms.b_nm2[sto.atoms.symbols.index("O")], U_TO_B * 0.0091)
    assert linbo3.angles_deg == (90.0, 90.0, 120.0)
    np.testing.assert_allclose(linbo3.lengths_nm, [0.5148, 0.5148, 1.3863])
    np.testing.assert_allclose(linbo3.volume_nm3, 0.5148**2 * 1.3863 * np.sin(np.pi / 3))
    np.testing.assert_allclose(np.linalg.norm(linbo3.edges_nm, axis=1), linbo3.lengths_nm)
    with pytest.raises(InputError, match=r"found cell angles .*120.*expected right angles"):
        read_structure(tmp_path / "crystal.cif", 2)


@pytest.mark.parametrize(
    "text",
    [
        without(STO, "_symmetry"),  # a number only
        without(STO, "_space_group_IT"),
        changed(STO, ("P m -3 m", "?")),
        changed(STO, ("P m -3 m", "Pm-3m")),
        changed(STO, ("P m -3 m", "P m 3 m")),
        changed(STO, ("_symmetry_space_group_name_H-M", "_space_group.name_H-M_alt")),
        changed(without(STO, "_space_group_IT"), ("name_H-M 'P m -3 m'", "name_Hall '-P 4 2 3'")),
        changed(STO, ("0.5 0.5 0 1", "0.5 0.5 0 .")),
        changed(STO, ("0.5 0.5 0 1", "0.4998(3) +.5 0e0 1.")),
        changed(STO, ("O1 O2-", "O1 o-2")),
        changed(STO, ("O1 O2-", "O1 .")),
        without(STO, "_cell_formula_units"),
        changed(STO, ("'O3 Sr Ti'", "'Strontium titanate'")),
        changed(STO, ("data_cubic\n", "data_global\n_journal_name 'Acta Crystallographica'\n#\n"
                      "data_cubic\n")),
        changed(STO, ("data_cubic\n", "\ufeff# Müller, Ångström\ndata_cubic\n")),
        STO.replace("\n", "\r\n"),
        STO + "# the end",
    ],
)  # fmt: skip
def test_other_ways_to_write_the_same_crystal(tmp_path, text):
    expected, found = read_text(tmp_path, STO), read_text(tmp_path, text)
    assert found.atoms.symbols == expected.atoms.symbols
    assert found.lengths_nm == expected.lengths_nm
    apart = found.atoms.positions - expected.atoms.positions
    np.testing.assert_allclose(apart - np.rint(apart), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.atoms.occupancy, 1.0)
    np.testing.assert_allclose(found.atoms.b_nm2, expected.atoms.b_nm2)


@pytest.mark.parametrize("ending", [":1", ":2", " S", " Z"])
def test_origins_are_told_apart(tmp_path, ending):
    diamond = (
        changed(without(BARE, "Sr1", "Ti1"), ("P m -3 m", f"F d -3 m{ending}"), (" 221", " 227"))
        .replace("3.905(1)", "3.567")
        .replace("O1 O2- 0.5 0.5 0", "C1 C 0.125 0.125 0.125")
    )
    first = ending in (":1", " S")
    if first:  # 1/8 1/8 1/8 is the middle of a bond of the first origin: 16 atoms
        assert composition(read_text(tmp_path, diamond)) == {"C": 16}
    else:
        assert composition(read_text(tmp_path, diamond)) == {"C": 8}


def test_the_formula_decides_on_the_origin_where_it_can(tmp_path):
    text = (
        changed(without(STO, "Sr1", "Ti1"), ("P m -3 m", "F d -3 m"), (" 221", " 227"))
        .replace("3.905(1)", "3.567")
        .replace("O1 O2- 0.5 0.5 0", "C1 C 0.125 0.125 0.125")
    )
    text = changed(text, ("'O3 Sr Ti'", "C"), ("units_Z 1", "units_Z 8"))
    cell = read_text(tmp_path, text)
    assert composition(cell) == {"C": 8}


def test_rounded_special_positions_are_one_atom(tmp_path):
    text = changed(
        without(BARE, "Sr1", "Ti1", "O1"),
        ("P m -3 m", "P 63/m m c"),
        (" 221", " 194"),
        ("3.905(1)", "3.21"),
        ("3.905(1)", "3.21"),
        ("3.905(1)", "5.21"),
        ("gamma 90", "gamma 120"),
    )
    for third, two_thirds in (("0.33", "0.67"), ("0.333", "0.667"), ("0.33333", "0.66667")):
        cell = read_text(tmp_path, text + f"Mg1 Mg {third} {two_thirds} 0.25 1 0.01\n")
        expected = np.array([[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]])
        found = cell.atoms.positions[np.argsort(cell.atoms.positions[:, 2])]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_split_sites_stay_split(tmp_path):
    cell = read_text(tmp_path, changed(BARE, ("0.5 0.5 0 1", "0.5 0.5 0.05 0.5")))
    assert composition(cell)["O"] == 6
    with pytest.raises(InputError, match=r"sum to 1\.2; expected|sum to 1\.2, expected"):
        read_text(tmp_path, changed(BARE, ("0.5 0.5 0 1", "0.5 0.5 0.05 0.6")))


def test_elements_that_share_a_site_stay_and_ions_of_one_are_joined(tmp_path):
    mixed = read_text(tmp_path, changed(BARE, ("Sr1 Sr2+ 0 0 0 1 0.0079", MIXED)))
    assert mixed.atoms.symbols[:2] == ("Sr", "Ba")
    np.testing.assert_allclose(mixed.atoms.occupancy[:2], [0.4, 0.6])
    ions = MIXED.replace("Sr1 Sr2+", "Fe1 Fe2+").replace("Ba1 Ba2+", "Fe2 Fe3+")
    joined = read_text(tmp_path, changed(BARE, ("Sr1 Sr2+ 0 0 0 1 0.0079", ions)))
    assert composition(joined) == {"Fe": 1, "O": 3, "Ti": 1}
    np.testing.assert_allclose(joined.atoms.occupancy, 1.0)
    rounded = MIXED.replace("0.4", "0.337").replace("0.6", "0.667")
    assert read_text(tmp_path, changed(BARE, ("Sr1 Sr2+ 0 0 0 1 0.0079", rounded)))


def test_deuterium_is_hydrogen_and_dummies_are_none(tmp_path):
    text = changed(
        BARE,
        ("_atom_site_U_iso_or_equiv", "_atom_site_calc_flag"),
        ("0.0079", "d"),
        ("0.0056", "d"),
        ("0.0091\n", "d\nX1 . 0.25 0.25 0.25 1 dum\n"),
        ("O1 O2-", "D1 D"),
    )
    assert composition(read_text(tmp_path, text)) == {"H": 3, "Sr": 1, "Ti": 1}


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [("Ca1A", "", "Ca"), ("OH1", "", "O"), ("LI1", "", "Li"), ("CA1", "Ca Ti", "Ca"),
     ("CA1", "C Ti", "C"), ("N", "", "N"), ("D2", "", "H")],
)  # fmt: skip
def test_elements_of_labels(tmp_path, label, formula, element):
    text = changed(
        without(BARE, "O1", "_atom_site_type_symbol"),
        ("Sr1 Sr2+", label),
        ("Ti1 Ti4+", "Ti1"),
        ("data_cubic\n", f"data_cubic\n_chemical_formula_sum '{formula or '?'}'\n"),
    )
    assert composition(read_text(tmp_path, text)) == {element: 1, "Ti": 1}


def test_b_is_as_good_as_u(tmp_path):
    by_b = changed(BARE, ("U_iso", "B_iso"), ("0.0091", "0.72(3)"), ("0.0056", "."))
    cell = read_text(tmp_path, by_b)
    by_symbol = dict(zip(cell.atoms.symbols, cell.atoms.b_nm2, strict=True))
    np.testing.assert_allclose([by_symbol["O"], by_symbol["Ti"]], [0.0072, 0.0])


@pytest.mark.parametrize("kind", ["U", "B"])
def test_tensors_are_averaged_over_directions_of_space(tmp_path, kind):
    """A sphere in skew axes has U_ij = <u^2> a*_i a*_j cos(angle between them)."""
    cell = read_text(tmp_path, LINBO3)
    inverse = np.linalg.inv(cell.metric)
    star = np.sqrt(np.diag(inverse))
    sphere = 0.0083 * inverse / np.outer(star, star)
    numbers = " ".join(
        f"{sphere[i, j] * (8 * np.pi**2 if kind == 'B' else 1):.8f}"
        for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    )
    text = changed(LINBO3, ("0.0081 0.0066 0.0077 0.0043 -0.0013 -0.0018", numbers))
    found = read_text(tmp_path, text.replace("aniso_U", f"aniso_{kind}"))
    oxygen = found.atoms.symbols.index("O")
    np.testing.assert_allclose(found.atoms.b_nm2[oxygen], U_TO_B * 0.0083, rtol=1e-5)


def test_cartesian_coordinates_with_their_axes(tmp_path):
    """In a skew cell, with axes that no program has as its own."""
    cell = read_text(tmp_path, LINBO3)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    edges = 10.0 * cell.edges_nm @ turn  # rows, Angstrom
    matrix = "".join(
        f"_atom_sites_fract_tran_matrix_{i + 1}{j + 1} {np.linalg.inv(edges.T)[i, j]:.10f}\n"
        for i, j in itertools.product(range(3), repeat=2)
    )
    text = changed(LINBO3, ("data_linbo3\n", "data_linbo3\n" + matrix)).replace(
        "_fract_x", "_Cartn_x"
    )
    text = text.replace("_fract_y", "_Cartn_y").replace("_fract_z", "_Cartn_z")
    for line in ("0.0000 0.0000 0.0000", "0.0000 0.0000 0.2787", "0.0492 0.3446 0.0647"):
        place = np.array(line.split(), dtype=float) @ edges
        text = changed(text, (line, " ".join(f"{x:.7f}" for x in place)))
    found = read_text(tmp_path, text)
    assert found.atoms.symbols == cell.atoms.symbols
    apart = found.atoms.positions - cell.atoms.positions
    np.testing.assert_allclose(apart - np.rint(apart), 0.0, atol=1e-6)
    with pytest.raises(InputError, match="contradicts the cell's edges"):
        read_text(tmp_path, changed(text, ("_cell_length_c 13.863", "_cell_length_c 12.863")))


def test_one_atom_without_a_loop(tmp_path):
    head = NO_GROUP[: NO_GROUP.index("loop_")]
    text = head + "_space_group_IT_number 225\n_atom_site_label Cu1\n" + "".join(
        f"_atom_site_fract_{axis} 0\n" for axis in "xyz"
    )  # fmt: skip
    assert composition(read_text(tmp_path, text)) == {"Cu": 4}


CEL_REFUSED = {
    "no star": (without(BTO_CEL, "*"), "closing line"),
    "cut": (BTO_CEL[: BTO_CEL.index(" Ti4+")], "closing line"),
    "star too early": (changed(BTO_CEL, (" Ti4+", "*\n Ti4+")), "line 7: found an atom behind"),
    "header short": (changed(BTO_CEL, (" 90.00000\n", "\n")), "line 2 .cell.: found"),
    "header without 0": (changed(BTO_CEL, ("  0   ", "      ")), "line 2 .cell.: found"),
    "header of words": (changed(BTO_CEL, ("0.40060", "0.4oo6")), "line 2 .cell.: found '0.4oo6'"),
    "length 0": (changed(BTO_CEL, ("0.40060", "0.0")), "line 2 .cell.: found cell lengths"),
    "two atoms in a line": (changed(BTO_CEL, ("0.000000\n Ti", "0.0 Ti")), "line 5: found"),
    "number": (changed(BTO_CEL, ("0.750000 0.875000", "0.75o000 0.875000")), "line 6: found"),
    "underscore": (changed(BTO_CEL, ("0.750000 0.875000", "0_7 0.875000")), "line 6: found '0_7'"),
    "nan": (changed(BTO_CEL, ("0.750000 0.875000", "nan 0.875000")), "line 6: found 'nan'"),
    "occupancy": (changed(BTO_CEL, ("0.875000 1.000000", "0.875000 1.1")), "line 3: found occup"),
    "negative B": (changed(BTO_CEL, ("0.006948", "-0.006948")), "line 6: found B -0.006948"),
    "element": (changed(BTO_CEL, ("Ti4+", "Tx4+")), "line 6: unknown element 'Tx'"),
    "atom twice": (
        BTO_CEL.replace(" Ti4+", " Ti4+  1.625000 0.750000 0.875000 1 0.006948\n Ti4+"),
        "the atom of line 7 is where the atom of line 6 is",
    ),
    "site too full": (changed(BTO_CEL, ("0.375000 0.100000", "0.375000 0.200000")), "sum to 1.1"),
    "no atoms": ("\n".join([*BTO_CEL.splitlines()[:2], "*"]), "found no atoms"),
    "two lines": ("comment\n 0 1 1 1 90 90 90\n", "expected a CEL file"),
    "not text": (b"\x89PNG\x00\xff\n" * 9, "crystal.cel"),
}


@pytest.mark.parametrize("fault", CEL_REFUSED)
def test_a_faulty_cel_is_refused_by_name(tmp_path, fault):
    text, message = CEL_REFUSED[fault]
    with pytest.raises(InputError, match=message) as refusal:
        read_text(tmp_path, text, ".cel")
    assert str(tmp_path / "crystal.cel") in str(refusal.value)


def test_good_cel_with_a_mixed_column(tmp_path):
    cell = read_text(tmp_path, BTO_CEL, ".cel")
    assert composition(cell) == {"Ba": 2, "O": 2, "Sr": 1, "Ti": 1}
    np.testing.assert_allclose(cell.atoms.occupancy, [1, 0.9, 0.1, 1, 1, 1])
    # three fields behind B are not needed, and an atom may stand outside the cell
    short = changed(BTO_CEL, (" 0.000000 0.000000 0.000000", ""), ("0.875000", "-0.125000"))
    np.testing.assert_allclose(
        np.mod(read_text(tmp_path, short, ".cel").atoms.positions, 1), cell.atoms.positions
    )


def test_shared_files_are_read_as_ever():
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared files are not at hand")
    bto = read_structure(SHARED / "data" / "bto110" / "BTO110.cel", 4)
    assert bto.size_nm == (0.56653, 0.4006, 0.56653)
    assert bto.atoms.symbols == ("Ba", "Ba", "Ti", "Ti", "O", "O", "O", "O", "O", "O")
    cubic = read_unit_cell(SHARED / "data" / "synthetic" / "BaTiO3_cubic.cif")
    assert composition(cubic) == {"Ba": 1, "O": 3, "Ti": 1}
    np.testing.assert_allclose(np.sort(rows(cubic, "O").sum(axis=1)), 1.0)
    np.testing.assert_allclose(np.sort(cubic.atoms.b_nm2), [0.00427, *[0.00561] * 3, 0.00695])


READER = """
import os, sys
from pathlib import Path
from time import perf_counter
from qhrtem_jax.errors import InputError
from qhrtem_jax.io.structures import read_unit_cell
import gemmi

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

for line in sys.stdin:
    name = line.rstrip("\\n")
    if os.fork() == 0:  # memory of its own: what one file takes is not seen with another
        before, begin = peak(), perf_counter()
        try:
            read_unit_cell(Path(name))
            print("0 0 accepted", flush=True)
        except InputError as error:
            print(f"{perf_counter() - begin} {peak() - before} {error}", flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("0 0 died", flush=True)
"""


def hostile():
    """Files that are too much of anything; the order does not matter for what they take."""
    words = BARE + "O1 O2- 0 0 0 1 0\n" * (MAX_BYTES // 20)
    yield "words.cif", words
    yield "sites.cif", BARE + "O1 O2- 0 0 0 1 0\n" * 100_000
    yield "crowd.cif", BARE + "O1 O2- 0 0 0 1 0\n" * 3_000
    yield "crowd.cel", BTO_CEL[:-2] + "O 0 0 0 0.0001 0\n" * 50_000 + "*\n"
    yield "atoms.cel", BTO_CEL[:-2] + "O 0 0 0 1 0\n" * (MAX_ATOMS + 1) + "*\n"
    yield "long.cel", BTO_CEL[:-2] + "O 0 0 0 1 0\n" * (MAX_BYTES // 13)
    yield "line.cel", "x" * (MAX_BYTES - 9)
    yield "quotes.cif", "data_a\n_a " + "'" * (MAX_BYTES - 99)
    yield "text.cif", "data_a\n_a\n;\n" + "abcdefgh" * (MAX_BYTES // 8 - 9) + "\n;\n"
    yield "blocks.cif", "".join(f"data_{k}\n" for k in range(900_000))
    yield "some.cif", "".join(f"data_{k}\n" for k in range(999))
    yield "items.cif", "data_a\n" + "".join(f"_a{k} 1\n" for k in range(19_000))
    yield (
        "tags.cif",
        "data_a\nloop_\n" + "".join(f"_a{k}\n" for k in range(19_000)) + "1\n" * 19_000,
    )
    yield "hundred.cif", words * 4
    yield "hundred.cel", BTO_CEL[:-2] + "O 0 0 0 1 0\n" * 8_000_000 + "*\n"


def test_too_much_is_refused_soon_and_in_little_memory(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", READER], **pipes) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for name, text in hostile():
            path = tmp_path / name
            path.write_text(text)
            print(path, file=reader.stdin, flush=True)
            seconds, mib, message = reader.stdout.readline().split(maxsplit=2)
            path.unlink()
            assert name in message, message
            assert name != "crowd.cel" or "very many atoms closer" in message
            assert float(mib) < 200, (name, mib)
            assert float(seconds) < 20, (name, seconds)


@pytest.mark.parametrize("angles", [(90.0, 90.0, 90.0), (62.0, 80.0, 115.0)])
@pytest.mark.parametrize("lengths", [(0.3, 0.12, 0.9), (1.5, 1.7, 1.1)])
def test_close_pairs_are_all_found(lengths, angles):
    metric = metric_of(lengths, angles)
    positions = np.random.default_rng(1).uniform(-1, 2, (60, 3))
    first, second, distance = close_pairs(positions, metric, 0.05)
    apart = positions[:, None] - positions
    apart -= np.rint(apart)
    exact = np.sqrt(np.einsum("abi,ij,abj->ab", apart, metric, apart))
    expected = {(i, j) for i, j in zip(*np.nonzero(exact < 0.05), strict=True) if i < j}
    assert len(first) == len(expected)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    np.testing.assert_allclose(distance, exact[first, second], atol=1e-9)


@pytest.mark.parametrize(
    ("lengths", "angles"),
    [((0.4, 0.4, -0.4), (90.0, 90.0, 90.0)), ((0.4, np.nan, 0.4), (90.0, 90.0, 90.0)),
     ((0.4, 0.4, 0.4), (90.0, 90.0, 180.0)), ((0.4, 0.4, 0.4), (30.0, 30.0, 100.0)),
     ((0.4, 0.4, 0.04), (90.0, 90.0, 90.0))],
)  # fmt: skip
def test_a_cell_that_cannot_be(lengths, angles):
    atoms = Atoms(("O",), np.zeros((1, 3)), np.ones(1), np.zeros(1))
    with pytest.raises(InputError, match="cell"):
        UnitCell(lengths, angles, atoms)


def test_unknown_elements_are_no_atoms():
    with pytest.raises(InputError, match="unknown element 'Xx'"):
        Atoms(("Xx",), np.zeros((1, 3)), np.ones(1), np.zeros(1))
