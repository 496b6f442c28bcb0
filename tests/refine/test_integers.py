"""Whole numbers of atoms: bootstrapping, constraints, changes, probabilities."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.physics.columns import columns_of, sites_of
from qhrtem_jax.refine.counting import Counted
from qhrtem_jax.refine.integers import (
    LEDGE,
    REJECTED,
    Belief,
    Constraints,
    degenerate_changes,
    doubtful_exit,
    fix_surest,
    paired_changes,
    shares,
    single_changes,
    weighed,
)
from qhrtem_jax.refine.surfaces import surfaces_of
from tests.physics import crystal as sto

COLUMNS = columns_of(sto.crystal())
MOST = COLUMNS.most_atoms(5)
SITES = sites_of(COLUMNS, 5)


def constraints(rule="isolated", roughness=None):
    surfaces = surfaces_of(COLUMNS, SITES, rule)
    return Constraints(surfaces, MOST, REJECTED, COLUMNS.atoms_per_cell(), roughness)


def chain(symbol, number=0):
    return [k for k, c in enumerate(COLUMNS.chains) if c.symbol == symbol][number]


def test_fixing_the_surest_first_corrects_those_that_hang_on_it():
    # two numbers that err together: alone the second rounds to 4, given the first it is 3
    covariance = np.array([[0.04, 0.12], [0.12, 0.37]])
    numbers = np.array([5.2, 3.6])
    np.testing.assert_array_equal(np.rint(numbers), [5, 4])
    found = fix_surest(numbers, covariance, np.array([9, 9]))
    np.testing.assert_array_equal(found, [5, 3])


def test_no_region_is_empty():
    relaxed = np.array([0.1, 0.4, 0.2])
    np.testing.assert_array_equal(fix_surest(relaxed, 0.01 * np.eye(3), np.full(3, 5)), [0, 1, 0])
    none = np.zeros(len(COLUMNS.chains))
    assert constraints().repair(none).sum() == 1
    assert constraints().allow(constraints().repair(none))


def test_an_atom_alone_at_the_surface_is_found_and_removed():
    counts = COLUMNS.most_atoms(3)
    assert not constraints().surfaces.unlikely(counts)
    lonely = counts.copy()
    late = next(k for k, c in enumerate(COLUMNS.chains) if c.symbol == "Sr" and c.slices == (2,))
    lonely[late] += 1  # two slices above all others
    assert constraints().surfaces.unlikely(lonely)
    np.testing.assert_array_equal(constraints().repair(lonely), counts)
    np.testing.assert_array_equal(constraints("none").repair(lonely), lonely)
    assert constraints().penalty(lonely) == REJECTED
    assert constraints().penalty(counts) == 0.0


def test_chains_may_begin_deeper():
    """What is full from the first slice to the third cell, and what begins with the second cell and
    ends with the fourth, are the same crystal a unit apart."""
    counts, begins = COLUMNS.most_atoms(3), COLUMNS.atoms_per_cell()
    taken = SITES.occupied(counts, begins)
    assert taken.sum() == counts.sum()
    assert set(SITES.slice[taken]) == set(range(COLUMNS.slices, 4 * COLUMNS.slices))
    assert SITES.extent(counts, begins) == (COLUMNS.slices, 4 * COLUMNS.slices)
    rules = constraints(roughness=1.0)
    flat = np.zeros_like(begins)
    assert rules.penalty(counts, flat) == rules.penalty(counts) == 0.0
    assert rules.penalty(counts, begins) == 0.0  # no step
    step = np.where(np.arange(len(begins)) == 0, begins, 0)
    assert rules.penalty(counts, step) > LEDGE
    # a column that ends with the others is rough at one face only
    shorter = counts - step
    assert rules.penalty(shorter, step) < rules.penalty(counts, step)
    # many at once as one by one, without any atom, and none at all
    some = [(counts, flat), (counts, step), (np.zeros_like(counts), step), (shorter, step)]
    numbers, ranks = (np.array(part) for part in zip(*some, strict=True))
    alone = [float(rules.penalty(*one)) for one in some]
    np.testing.assert_allclose(rules.penalty(numbers, ranks), alone)
    assert rules.penalty(numbers[:0], ranks[:0]).shape == (0,)
    assert rules.allow(COLUMNS.most_atoms(5), flat)
    assert not rules.allow(COLUMNS.most_atoms(5), begins)
    np.testing.assert_array_equal(rules.room(begins), COLUMNS.most_atoms(4))
    later = surfaces_of(COLUMNS, sites_of(COLUMNS, 5, entrance=2), "none")
    behind = dataclasses.replace(rules, surfaces=later)
    first = np.array([sum(k < 2 for k in chain.slices) for chain in COLUMNS.chains])
    assert 0 < first.sum() < begins.sum()
    np.testing.assert_array_equal(behind.room(begins), COLUMNS.most_atoms(4) - first)
    np.testing.assert_array_equal(behind.room(flat), COLUMNS.most_atoms(5))


def test_an_atom_without_its_nearest_neighbours_is_rejected_at_either_face():
    """Sr O Ti crystals: titanium's neighbours are oxygen at half a lattice constant, and those of
    oxygen titanium. What the other rule sees is two slices at one face only."""
    rules = constraints("neighbours")
    counts = COLUMNS.most_atoms(3)
    assert not rules.surfaces.unlikely(counts)
    short = counts.copy()
    short[chain("Ti")] -= 2  # leaves oxygen of its own columns beyond the last titanium beside it
    beyond = rules.surfaces.lonely(short)
    symbols = {COLUMNS.chains[c].symbol for c in SITES.chain[beyond]}
    assert symbols == {"O"}
    assert rules.penalty(short) == REJECTED
    mended = rules.repair(short)
    assert not rules.surfaces.unlikely(mended)
    assert np.all(mended <= short)
    assert not constraints("isolated").surfaces.unlikely(short)
    # at the entrance: oxygen begins where no titanium is left
    gone = counts.copy()
    gone[[k for k, c in enumerate(COLUMNS.chains) if c.symbol == "Ti"]] = 0
    assert set(SITES.slice[rules.surfaces.lonely(gone)]) >= {0, 1}


def test_columns_side_by_side_are_about_as_long():
    rough = constraints("none", roughness=1.0)
    flat, hole = COLUMNS.most_atoms(4), COLUMNS.most_atoms(4)
    hole[chain("O")] -= 4
    assert rough.penalty(flat) == 0.0
    length = hole / COLUMNS.atoms_per_cell()
    assert rough.penalty(hole) == pytest.approx(np.sum((length - length.mean()) ** 2))


def test_impossible_numbers_are_refused():
    too_many, empty = MOST + 1, np.zeros(8)
    allowed = constraints().allow(np.array([MOST, too_many, empty]))
    np.testing.assert_array_equal(allowed, [True, False, False])


def test_changes_cover_singles_pairs_and_degenerate_states():
    counts = COLUMNS.most_atoms(3).astype(float)
    one = single_changes(COLUMNS, counts, MOST)
    differing = np.sum(one != counts, axis=1)
    assert set(differing) <= {0, 1}
    for k in range(8):
        for step in (-1, 1):
            row = counts.copy()
            row[k] += step
            assert np.any(np.all(one == row, axis=1))
    two = paired_changes(counts, MOST)
    assert len(two) == 4 * 28
    assert np.all(np.sum(two != counts, axis=1) == 2)
    degenerate = degenerate_changes(COLUMNS, counts, MOST)
    heavy, light = chain("Sr"), None
    for k, c in enumerate(COLUMNS.chains):
        if c.symbol == "O" and c.column == COLUMNS.chains[heavy].column:
            light = k
    row = counts.copy()
    row[heavy] += 1
    row[light] = 0
    assert np.any(np.all(degenerate == row, axis=1))
    # shapes do not depend on the numbers, so nothing is compiled anew
    assert single_changes(COLUMNS, MOST, MOST).shape == one.shape
    assert degenerate_changes(COLUMNS, MOST, MOST).shape == degenerate.shape


def test_probabilities_are_those_of_the_objectives():
    states = np.array([[3, 5], [4, 5], [3, 6], [3, 5]])
    chi2 = np.array([10.0, 12.0, 14.0, 10.0])  # the repeated state counts once
    different, likely = weighed(states, chi2)
    assert len(different) == 3
    first, second = (shares(column, likely) for column in different.T)
    weight = np.exp([0.0, -1.0, -2.0])
    assert first[4] == pytest.approx(weight[1] / weight.sum())
    assert second[6] == pytest.approx(weight[2] / weight.sum())
    assert sum(first.values()) == pytest.approx(1.0)


def test_an_exit_that_rests_on_one_doubtful_atom_is_told():
    counts = COLUMNS.most_atoms(3).astype(float)
    late = next(k for k, c in enumerate(COLUMNS.chains) if c.symbol == "Sr" and c.slices == (2,))
    lonely = counts.copy()
    lonely[late] += 1.0
    sure = [{int(n): 1.0} for n in lonely]
    assert doubtful_exit(SITES, lonely, Belief(sure, {})) is None
    sure[late] = {int(counts[late]): 0.2, int(lonely[late]): 0.8}
    assert doubtful_exit(SITES, lonely, Belief(sure, {})) == late
    sure[late] = {int(counts[late]): 0.6, int(lonely[late]): 0.4}
    assert doubtful_exit(SITES, counts, Belief(sure, {})) is None  # several atoms end there


def test_exits_are_as_probable_as_the_states_that_end_there():
    flat = COLUMNS.numbers_of_slices(8).astype(float)
    longer = flat + COLUMNS.atoms_per_cell()
    counted = Counted(
        flat[None],
        np.zeros(1),
        [np.array([flat, longer])],
        [np.array([0.0, 2.0])],
        np.ones(1, dtype=bool),
    )
    belief = counted.belief(0, SITES)
    assert set(belief.exits) == {8, 12}
    assert belief.exits[12] == pytest.approx(np.exp(-1.0) / (1.0 + np.exp(-1.0)))
