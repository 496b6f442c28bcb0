"""Crystals along zone axes: against ase.build.cut, against what distances say, and as images."""

import dataclasses

import ase
import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.structures import read_structure, read_unit_cell
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.orientation import PLANE_NM, equal_slices, orient
from qhrtem_jax.physics.parameters import default_vector
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal, UnitCell


def crystal(lengths, angles, sites):
    symbols, positions = zip(*sites, strict=True)
    ones = np.ones(len(symbols))
    atoms = Atoms(symbols, np.mod(np.array(positions, float), 1.0), ones, 0.005 * ones)
    return UnitCell(lengths, angles, atoms)


PEROVSKITE = [
    ("Sr", (0, 0, 0)),
    ("Ti", (0.5, 0.5, 0.5)),
    ("O", (0.5, 0.5, 0)),
    ("O", (0.5, 0, 0.5)),
    ("O", (0, 0.5, 0.5)),
]
SRTIO3 = crystal((0.3905,) * 3, (90.0,) * 3, PEROVSKITE)


def _pbnm(symbol, x, y, z):
    """General positions of Pbnm."""
    return [
        (symbol, p)
        for p in {
            (x, y, z),
            (-x, -y, z + 0.5),
            (0.5 - x, y + 0.5, 0.5 - z),
            (x + 0.5, 0.5 - y, -z),
            (-x, -y, -z),
            (x, y, 0.5 - z),
            (x + 0.5, 0.5 - y, z + 0.5),
            (0.5 - x, y + 0.5, z),
        }
    ]


def _apart(sites):
    """Each place once."""
    found = []
    for symbol, place in sites:
        same = [
            np.linalg.norm((d := np.array(place) - np.array(p)) - np.rint(d)) < 1e-6
            for s, p in found
            if s == symbol
        ]
        if not any(same):
            found.append((symbol, place))
    return found


# Diehl & Brandt, Mater. Res. Bull. 10, 85 (1975), rounded
YALO3 = crystal(
    (0.5180, 0.5330, 0.7375),
    (90.0,) * 3,
    _apart(
        _pbnm("Y", -0.0104, 0.0526, 0.25)
        + _pbnm("Al", 0.0, 0.5, 0.0)
        + _pbnm("O", 0.086, 0.475, 0.25)
        + _pbnm("O", -0.297, 0.293, 0.044)
    ),
)


def _p21c(symbol, x, y, z):
    places = ((x, y, z), (-x, y + 0.5, 0.5 - z), (-x, -y, -z), (x, 0.5 - y, z + 0.5))
    return [(symbol, p) for p in places]


# Howard, Hill & Reichert, Acta Cryst. B44, 116 (1988), rounded
ZRO2 = crystal(
    (0.5150, 0.5212, 0.5317),
    (90.0, 99.23, 90.0),
    _p21c("Zr", 0.2754, 0.0395, 0.2083)
    + _p21c("O", 0.0700, 0.3317, 0.3447)
    + _p21c("O", 0.4496, 0.7569, 0.4792),
)
GAN = crystal(
    (0.3189, 0.3189, 0.5185),
    (90.0, 90.0, 120.0),
    [
        ("Ga", (1 / 3, 2 / 3, 0.0)),
        ("Ga", (2 / 3, 1 / 3, 0.5)),
        ("N", (1 / 3, 2 / 3, 0.377)),
        ("N", (2 / 3, 1 / 3, 0.877)),
    ],
)
SILICON = crystal(
    (0.5431,) * 3,
    (90.0,) * 3,
    [
        ("Si", tuple(np.array(c) + b))
        for c in ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))
        for b in (0.0, 0.25)
    ],
)
ELSEWHERE = crystal(
    (0.3905,) * 3, (90.0,) * 3, [(s, tuple(np.array(p) + 0.07)) for s, p in PEROVSKITE]
)
CASES = {
    "SrTiO3 [001]": (SRTIO3, (0, 0, 1), (0, 1, 0), 5, 0.0),
    "SrTiO3 [001], origin elsewhere": (ELSEWHERE, (0, 0, 1), (0, 1, 0), 5, 0.0),
    "SrTiO3 [110]": (SRTIO3, (1, 1, 0), (0, 0, 1), 10, 0.0),
    "SrTiO3 [111]": (SRTIO3, (1, 1, 1), (1, -1, 0), 30, 0.0),
    "YAlO3 [001]": (YALO3, (0, 0, 1), (0, 1, 0), 20, 0.0),
    "YAlO3 [110]": (YALO3, (1, 1, 0), (0, 0, 1), None, 0.03),
    "ZrO2 [010]": (ZRO2, (0, 1, 0), (0, 0, 1), None, 0.01),
    "ZrO2 [001]": (ZRO2, (0, 0, 1), (0, 1, 0), None, 0.01),
    "GaN [11-20]": (GAN, (1, 1, 0), (0, 0, 1), 8, 1e-9),
    "Si [110]": (SILICON, (1, 1, 0), (0, 0, 1), 4, 0.0),
}


def ase_atoms(cell):
    lengths = [10 * n for n in cell.lengths_nm]
    found = ase.Atoms(cell.atoms.symbols, cell=[*lengths, *cell.angles_deg], pbc=True)
    found.set_scaled_positions(cell.atoms.positions)
    return found


def boxed(oriented):
    return ase.Atoms(
        oriented.atoms.symbols,
        cell=np.diag(oriented.lengths_nm) * 10,
        scaled_positions=oriented.atoms.positions,
        pbc=True,
    )


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_crystal(name):
    cell, zone, up, count, most = CASES[name]
    oriented = orient(cell, zone, up, max(most, 1e-6))
    assert oriented.strain <= max(most, 1e-9)
    if count is not None:
        assert len(oriented.atoms.symbols) == count
    edges = cell.edges_nm
    # as dense as before
    volume = np.prod(oriented.lengths_nm)
    density = len(cell.atoms.symbols) / cell.volume_nm3
    assert len(oriented.atoms.symbols) / volume == pytest.approx(density, rel=3 * most + 1e-9)
    # atoms have the neighbours that they had, as far away
    before, after = ase_atoms(cell), boxed(oriented)
    for one, other in ((s, t) for s in set(before.symbols) for t in set(before.symbols)):
        pairs = {(one, other): 4.2}
        i, d = neighbor_list("id", before, pairs)
        j, e = neighbor_list("id", after, pairs)
        chosen = [k for k in set(i.tolist()) if before.symbols[k] == one][:1]
        if most == 0.0 and chosen:
            wanted = np.sort(np.concatenate([d[i == k] for k in chosen]))
            mine = [np.sort(e[j == k]) for k in set(j.tolist()) if after.symbols[k] == one]
            assert any(len(m) == len(wanted) and np.allclose(m, wanted, atol=2e-3) for m in mine)
    # the beam along z, up towards smaller y, x to the right: right-handed
    x, y, z = oriented.edges @ edges
    beam, upward = np.array(zone) @ edges, np.array(up) @ edges
    assert z @ beam == pytest.approx(np.linalg.norm(z) * np.linalg.norm(beam))
    across = upward - (upward @ z) / (z @ z) * z
    assert y @ across < -0.99 * np.linalg.norm(y) * np.linalg.norm(across)
    assert np.dot(np.cross(x, y), z) > 0.0
    # planes, where there are any, lie about the middle of their slices
    z, height = oriented.atoms.positions[:, 2], oriented.lengths_nm[2]
    slices, _, error = equal_slices(z, height)
    off = np.mod(slices * z, 1.0) - 0.5
    assert np.abs(off).max() * height / slices < error + 1e-4 or error > PLANE_NM
    # columns keep away from the edges
    for axis in (0, 1):
        places = np.sort(np.mod(oriented.atoms.positions[:, axis], 1.0))
        widest = np.diff(np.append(places, places[0] + 1.0)).max()
        assert min(places[0], 1.0 - places[-1]) > 0.45 * widest


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_ase(name):
    cell, zone, up, _, most = CASES[name]
    oriented = orient(cell, zone, up, max(most, 1e-6))
    a, b, c = oriented.edges
    theirs = ase.build.cut(ase_atoms(cell), a=a, b=b, c=c, tolerance=1e-4)
    assert sorted(theirs.symbols) == sorted(oriented.atoms.symbols)
    mine, other = oriented.atoms.positions, theirs.get_scaled_positions()
    kinds = np.array(theirs.symbols)
    for k in np.flatnonzero(kinds == oriented.atoms.symbols[0]):
        apart = mine[:, None] - (other - other[k] + mine[0])[None]
        near = np.abs(apart - np.rint(apart)).max(axis=2) < 1e-4
        near &= np.array(oriented.atoms.symbols)[:, None] == kinds
        if near.any(axis=1).all():
            return
    pytest.fail("no shift of the origin brings the cells together")


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(InputError, match=r"up: found \[0, 0, 2\], expected a direction across"):
        orient(SRTIO3, (0, 0, 1), (0, 0, 2), 0.01)
    with pytest.raises(InputError, match="zone: found"):
        orient(SRTIO3, (0, 0, 0), (0, 0, 2), 0.01)
    with pytest.raises(
        InputError, match=r"max_strain: found 1e-05, but the best .* needs a strain of 0.0005"
    ):
        orient(ZRO2, (1, 0, 0), (0, 1, 0), 1e-5)


def test_slices_follow_the_planes():
    assert equal_slices(np.array([0.0, 0.25, 0.5, 0.75]), 0.5665)[0] == 4
    # far apart: sub-slices, each thin enough
    count, shift, error = equal_slices(np.array([0.1, 0.6]), 1.4)
    assert count == 6
    assert error == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(np.mod(6 * (np.array([0.1, 0.6]) + shift), 1.0), 0.5)
    # rumpled planes are still planes
    count, _, error = equal_slices(np.array([0.0, 0.02, 0.5, 0.51]), 0.4)
    assert count == 2
    assert error == pytest.approx(0.004)
    # without rhythm: of usual thickness, and the error says how bad it is
    rng = np.random.default_rng(0)
    count, _, error = equal_slices(rng.uniform(size=40), 1.5)
    assert count == 10
    assert error > 0.03


def test_cubic_barium_titanate_is_the_papers_cell(bto_dir):
    """From the database's crystal, along [110] with [001] up."""
    cubic = bto_dir.parent / "synthetic" / "BaTiO3_cubic.cif"
    if not cubic.is_file():
        pytest.skip("shared data is absent")
    oriented = orient(read_unit_cell(cubic), (1, 1, 0), (0, 0, 1), 0.005)
    reference = read_structure(bto_dir / "BTO110.cel", 4)
    slices = equal_slices(oriented.atoms.positions[:, 2], oriented.lengths_nm[2])[0]
    # both files round lengths and Debye-Waller factors, by which images differ by 3e-5
    b_of = dict(zip(reference.atoms.symbols, reference.atoms.b_nm2, strict=True))
    exact = np.array([b_of[symbol] for symbol in oriented.atoms.symbols])
    np.testing.assert_allclose(oriented.atoms.b_nm2, exact, atol=2e-6)
    atoms = dataclasses.replace(oriented.atoms, b_nm2=exact)
    mine = Crystal(reference.size_nm, atoms, slices)
    assert slices == 4
    np.testing.assert_allclose(oriented.lengths_nm, reference.size_nm, atol=5e-6)
    frame = Frame((40, 56), (0.01, 0.01))
    vector = default_vector()[None]
    images = [
        make_simulator(
            cell,
            Microscope(),
            frame,
            grid_shape=(60, 84),
            image_shape=(40, 56),
            slices=20,
            precision="float64",
        ).images(vector)[0]
        for cell in (mine, reference)
    ]
    assert float(np.sqrt(np.mean((images[0] - images[1]) ** 2))) < 1e-7
