"""Regions of which a part begins deeper than the rest."""

import numpy as np
import pytest

from qhrtem_jax.field.heights import Move, at_other_height, moved_begins
from qhrtem_jax.field.ledges import ledges, possible, simulated_moves
from qhrtem_jax.field.linear import linearise
from qhrtem_jax.field.model import whole_numbers, with_image
from qhrtem_jax.field.other_heights import other_heights
from qhrtem_jax.field.simulate import exits, image, with_room
from qhrtem_jax.field.trials import settle
from qhrtem_jax.matching.noise import NoiseModel
from tests import wedge
from tests.linearised import Linearised, at_truth

REGION = 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Linearised:
    """Two regions, one below the other."""
    return at_truth(tmp_path_factory.mktemp("pair"), wedge.TRUTH["rois"][:2])


def side(columns) -> tuple[int, ...]:
    """Columns of the left half of a cell."""
    return tuple(int(k) for k in np.flatnonzero(columns.xy[:, 0] < 0.5))


def test_each_step_leaves_columns_on_either_side(pair):
    columns = pair.model.columns
    found, every = ledges(columns), set(range(len(columns.xy)))
    assert Move(1, side(columns)) in found
    assert Move(-1, side(columns)) in found
    assert len(set(found)) == len(found)
    for move in found:
        assert move.columns
        assert set(move.columns) < every


@pytest.mark.parametrize("units", [1, -1])
def test_a_part_of_a_region_moves_along_the_beam(pair, units):
    """Where it begins is where its first column does."""
    model, state = pair.model, pair.state
    move = Move(units, side(model.columns))
    found = at_other_height(model, state, [REGION], move)
    chains = np.isin([c.column for c in model.columns.chains], move.columns)
    deeper = chains if units > 0 else ~chains
    expected = np.zeros_like(state.stack.begins)
    expected[REGION] = np.where(deeper, model.per_cell, 0)
    np.testing.assert_array_equal(found.stack.begins, expected)
    heights = found.stack.heights - found.stack.heights[0]
    before = state.stack.heights - state.stack.heights[0]
    np.testing.assert_array_equal(heights[REGION] - before[REGION], min(units, 0))
    back = at_other_height(model, found, [REGION], Move(-units, move.columns))
    np.testing.assert_array_equal(back.stack.begins, state.stack.begins)
    np.testing.assert_allclose(back.points, state.points, atol=1e-9)
    if units > 0:  # the part below ends a unit deeper
        deepest = exits(model, found)[REGION] - exits(model, state)[REGION]
        assert deepest in range(1, model.columns.slices + 1)


def test_there_has_to_be_room(pair):
    model, numbers = pair.model, pair.numbers[REGION]
    move, flat = Move(1, side(model.columns)), np.zeros((1, len(numbers)), dtype=int)
    (begins,), _ = moved_begins(model, flat, move)
    assert possible(model, numbers, begins, move)
    assert not possible(model, model.most.astype(float), begins, move)
    assert possible(model, model.most.astype(float), flat[0], Move(1))
    # a part without atoms makes no step
    assert not possible(model, np.where(begins > 0, 0.0, numbers), begins, move)


def test_moves_are_simulated_in_one_stack_as_in_their_own(pair):
    """From the field's potential as it is. Where the stack is another one, envelopes are those of
    another plane, which moves that all regions make have in common."""
    model, state, journal = pair.model, pair.state, pair.journal
    moves = [Move(1, (0,)), Move(-1, (0,)), Move(1, side(model.columns)), Move(1)]
    moves += [Move(-1, side(model.columns)), Move(-1)]
    regions = np.array([np.argmax(state.stack.heights)])
    before = pair.residuals(state)
    found = simulated_moves(model, state, journal, [(regions, move) for move in moves])
    for move, seen in zip(moves, found, strict=True):
        there = at_other_height(model, state, regions.tolist(), move)
        expected = pair.residuals(there)
        added, foretold = (np.sum(r**2) - np.sum(before**2) for r in (expected, seen))
        assert added > 20.0
        np.testing.assert_allclose(seen, expected, atol=0.01)
        assert foretold == pytest.approx(added, rel=0.01)


def test_a_stack_with_room_is_no_other_specimen(pair):
    model, state = pair.model, pair.state
    roomy = with_room(model, state)
    assert roomy.stack.units == state.stack.units + 2
    assert np.sum((pair.residuals(roomy) - pair.residuals(state)) ** 2) < 0.5


@pytest.mark.parametrize("units", [1, -1])
def test_a_step_is_found_with_the_numbers_around_it(pair, units):
    """In an image of this simulator; one number is wrong besides."""
    model, journal = pair.model, pair.journal
    move = Move(units, side(model.columns))
    true = at_other_height(model, pair.state, [REGION], move)
    clean = image(model, true, journal)
    noise = NoiseModel(1.8e-4, (0.6, 0.25))
    left, right = (np.linalg.cholesky(noise.correlation(n) + 1e-9 * np.eye(n)) for n in clean.shape)
    white = np.random.default_rng(6).normal(size=clean.shape)
    model = with_image(model, clean + noise.variance**0.5 * left @ white @ right.T)
    flat = pair.with_numbers(pair.numbers)
    flat.points[REGION, model.layout.counts.start] -= 1
    linear = linearise(model, flat, journal)
    flat, _ = settle(linear, flat, journal, "test")
    found, changed = other_heights(linear, flat, journal, pair.blocks)
    assert changed
    np.testing.assert_array_equal(found.stack.begins, true.stack.begins)
    heights = found.stack.heights - found.stack.heights[0]
    np.testing.assert_array_equal(heights, true.stack.heights - true.stack.heights[0])
    if units > 0:  # the other way a heavy atom more makes up for light ones, which is left
        np.testing.assert_array_equal(whole_numbers(model, found), pair.numbers)
