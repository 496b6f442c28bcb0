"""Atoms are grouped into columns fast, and as one by one comparison groups them."""

from time import perf_counter

import numpy as np
import pytest

from qhrtem_jax.physics.columns import SAME_COLUMN_NM, columns_of
from qhrtem_jax.physics.specimen import Atoms, Crystal


def crystal_of(xy, size, seed=0):
    z = np.random.default_rng(seed).uniform(0, 1, len(xy))
    atoms = Atoms(
        ("O",) * len(xy), np.column_stack([xy, z]), np.ones(len(xy)), np.full(len(xy), 0.005)
    )
    return Crystal((*size, 0.4), atoms, 3)


def one_by_one(crystal):
    """Centres, and the column of each atom, every atom compared with every centre."""
    size = np.array(crystal.size_nm[:2])
    centres, column_of = [], []
    for point in np.mod(crystal.atoms.positions[:, :2] + 1e-9, 1.0) - 1e-9:
        apart = point - np.reshape(centres, (-1, 2))
        near = np.hypot(*((apart - np.rint(apart)) * size).T) < SAME_COLUMN_NM
        column_of.append(int(np.argmax(near)) if near.any() else len(centres))
        if not near.any():
            centres.append(point)
    return np.array(centres), column_of


@pytest.mark.parametrize("size", [(0.55, 0.4), (0.0031, 0.4), (0.01, 0.0045), (0.0055, 0.0015)])
@pytest.mark.parametrize("seed", range(8))
def test_grouping_is_that_of_one_by_one_comparison(size, seed):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-0.3, 1.3, (60, 2))
    xy[20:] = xy[rng.integers(0, 20, 40)] + rng.normal(0, 0.0012, (40, 2)) / size
    xy[::5] = np.rint(xy[::5]) + rng.normal(0, 0.001, (12, 2)) / size  # on both sides of the edges
    crystal = crystal_of(xy, size, seed)
    centres, column_of = one_by_one(crystal)
    columns = columns_of(crystal)
    np.testing.assert_array_equal(columns.xy, centres)
    heights = crystal.heights_of_atoms()
    for chain in columns.chains:
        mine = np.array(column_of) == chain.column
        np.testing.assert_array_equal(np.sort(heights[mine]), chain.z)


@pytest.mark.parametrize("columns", [1, 100, 10_000])
def test_ten_thousand_atoms_take_less_than_two_seconds(columns):
    rng = np.random.default_rng(0)
    places = (np.stack(np.divmod(rng.permutation(10_000)[:columns], 100), axis=1) + 0.5) / 100
    xy = places[rng.permutation(10_000) % columns] + rng.uniform(-1e-6, 1e-6, (10_000, 2))
    crystal = crystal_of(xy, (20.0, 20.0))
    begin = perf_counter()
    found = columns_of(crystal)
    assert perf_counter() - begin < 2.0
    assert len(found.xy) == columns
    assert sum(found.atoms_per_cell()) == 10_000
