"""A field to first order, and numbers found all together, in a field of another multislice."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.field import entrance, trials
from qhrtem_jax.field import other_heights as at_others
from qhrtem_jax.field.blocks import blocks_of
from qhrtem_jax.field.checkpoint import Standing
from qhrtem_jax.field.counting import certify, search_around
from qhrtem_jax.field.entrance import begin, best_entrance
from qhrtem_jax.field.heights import Move, _at_better_heights, at_other_height, better_heights
from qhrtem_jax.field.joint import REFINING
from qhrtem_jax.field.layout import apart, pixels_beside
from qhrtem_jax.field.linear import foretold, linearise, seen, seen_beside
from qhrtem_jax.field.model import weights, whole_numbers
from qhrtem_jax.field.other_heights import other_heights
from qhrtem_jax.field.relaxation import again, surest_numbers
from qhrtem_jax.field.search import search_among
from qhrtem_jax.field.simulate import (
    image,
    objective,
    plane_vector,
    snapped,
    stack_of,
    whole_objective,
)
from qhrtem_jax.field.trials import Proposal, settle, side_by_side, tried
from qhrtem_jax.inputs.settings import SpecimenSettings
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.integers import shared_columns
from qhrtem_jax.refine.unknown_cells import numbers_std
from qhrtem_jax.regions.model import fitter
from tests import wedge
from tests.linearised import at_truth

REGIONS = wedge.REGIONS


@pytest.fixture(scope="module")
def column(tmp_path_factory):
    return at_truth(tmp_path_factory.mktemp("column"), wedge.TRUTH["rois"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The second region only: all other crystal of the frame is unknown."""
    return at_truth(tmp_path_factory.mktemp("alone"), wedge.TRUTH["rois"][1:2])


def test_the_global_focus_is_that_of_the_deepest_exit(column):
    """With the true numbers and the regions' true C1, at their own exit planes."""
    deepest = max(wedge.TRUTH["rois"], key=lambda roi: roi["exit_slice"])
    found = plane_vector(column.model, column.state)[INDEX["C1"]]
    assert found == pytest.approx(deepest["C1_roi"], abs=0.02)


def some_changes(column):
    """True numbers with changes in three regions that touch."""
    numbers = column.numbers.copy()
    numbers[0, 4] += 1
    numbers[1, [6, 7]] += [-1, 1]
    numbers[2, 0] -= 1
    return numbers


def test_changes_of_several_regions_add_up(column):
    """Vectors are made one change at a time; all of them together do what they foretell."""
    linear = column.linear
    numbers = some_changes(column)
    made = linear.amounts(numbers)
    assert np.count_nonzero(made) == 4
    here = column.residuals(column.state)
    there = column.residuals(column.with_numbers(numbers))
    foretold = here.copy()
    for k, block in enumerate(linear.vectors.patches):
        changes = block.index < linear.vectors.count
        foretold[k] += made[block.index[changes]] @ block.vectors[changes]
    change = np.sum((there - here) ** 2)
    assert change > 100.0
    assert np.sum((foretold - there) ** 2) < 0.02 * change
    # the products say the same of chi-square
    products = linear.vectors.along(here)[: linear.vectors.count]
    among = linear.products.among(column.every)
    expected = np.sum(here**2) + 2.0 * made @ products + made @ among @ made
    assert np.sum(there**2) == pytest.approx(expected, abs=0.05 * change)


def test_an_exchange_of_a_heavy_atom_for_light_ones_is_foretold_everywhere(column):
    """The image hardly tells it, so it is foretold to the last bit: in the region's own pixels and
    in those of its neighbours."""
    linear, numbers = column.linear, column.numbers.copy()
    heavy, light = shared_columns(column.model.columns)[0]
    for region, change in ((1, (-1, 2)), (3, (1, -2))):
        numbers[region, [heavy, light]] += change
    here = column.residuals(column.state)
    there = column.residuals(column.with_numbers(numbers))
    made = linear.amounts(numbers)
    foretold = here.copy()
    for k, block in enumerate(linear.vectors.patches):
        changes = block.index < linear.vectors.count
        foretold[k] += made[block.index[changes]] @ block.vectors[changes]
    beside = np.sum((there[2] - here[2]) ** 2)
    assert beside > 0.05
    np.testing.assert_allclose(np.sum((foretold - there) ** 2), 0.0, atol=0.02 * beside)


@pytest.mark.parametrize("name", ["C1", "image_spread", "absorption", "shift", "mtf_scale"])
def test_derivatives_are_those_of_the_field(column, name):
    linear, layout = column.linear, column.model.layout
    coordinates, local = column.model.nuisances.coordinates, column.model.nuisances.own
    others = {"shift": layout.shifts.start + 3, "mtf_scale": layout.mtf_stretch.start}
    index = others[name] if name in others else INDEX[name]
    p = coordinates.free.index(index)
    own = p < local
    assert own == (name in ("absorption", "shift"))
    regions = [1] if own else list(range(REGIONS))
    steps = {"C1": 0.02, "image_spread": 2e-4, "absorption": 1e-3, "shift": 5e-4}
    step = steps.get(name, 0.01)
    ends = []
    for sign in (1.0, -1.0):
        points = column.state.points.copy()
        points[regions, index] += sign * step
        ends.append(column.residuals(column.at(points)))
    numeric = (ends[0] - ends[1]) / (2.0 * step) * float(coordinates.width[p])
    at = linear.vectors.count + (local + p if own else (REGIONS - 1) * local + p)
    for k, block in enumerate(linear.vectors.patches):
        found = block.vectors[block.index == at]
        if not len(found):  # too far from what moves
            assert own
            assert np.max(np.abs(numeric[k])) < 0.02 * np.max(np.abs(numeric))
            continue
        np.testing.assert_allclose(found[0], numeric[k], atol=0.01 * np.max(np.abs(numeric)))


def slopes_by_unknown(made, cell, look):
    """By differences, in units of the prior's deviation: what the numbers of an unknown cell do to
    what `look` says of a state."""
    slopes = []
    for chain, std in enumerate(numbers_std(made.model.per_cell)):
        ends = []
        for sign in (1.0, -1.0):
            numbers = np.array(made.state.unknown.numbers)
            numbers[cell, chain] += sign * 0.02
            unknown = dataclasses.replace(made.state.unknown, numbers=jnp.asarray(numbers))
            ends.append(look(dataclasses.replace(made.state, unknown=unknown)))
        slopes.append((ends[0] - ends[1]) / 0.04 * std)
    return np.array(slopes)


def test_unknown_cells_are_nuisances(column):
    """Their numbers act on the pixels beside them, in units of their prior's deviation."""
    model, linear = column.model, column.linear
    cells, chains = linear.unknown.shape
    first = len(linear.vectors.owners) - cells * chains
    block = linear.vectors.patches[-1]
    strongest = np.argmax(np.sum(block.vectors**2, axis=1) * (block.index >= first))
    cell = int(block.index[strongest] - first) // chains
    assert not model.cells.near_unknown[0, cell]
    numeric = slopes_by_unknown(column, cell, lambda state: column.residuals(state)[-1])
    mine = first + cell * chains + np.arange(chains)
    places = [np.flatnonzero(block.index == at) for at in mine]
    assert all(len(place) == 1 for place in places)
    found = block.vectors[np.concatenate(places)]
    assert np.max(np.sum(np.square(numeric), axis=1)) > 100.0
    np.testing.assert_allclose(found, numeric, atol=0.02 * np.max(np.abs(numeric)))
    # it stands beside the frame's last line, and far from its first ones
    beside = pixels_beside(model.cells, model.problem.field.frame, model.columns)[cell]
    assert beside[-1].any()
    assert not beside[: 2 * wedge.ROWS].any()


def test_other_pixels_hold_unknown_cells(alone):
    """What the pixels of no region say of a cell beside them."""
    model, state, outside = alone.model, alone.state, alone.linear.vectors.outside
    chains = alone.linear.unknown.shape[1]
    cell = int(np.argmax(np.diagonal(outside))) // chains
    (r, c), (rows, cols) = model.corners[0], model.targets.shape[1:]
    images = slopes_by_unknown(alone, cell, lambda other: image(model, other, alone.journal))
    white = np.array(state.weights.whole.whiten(images))
    white[:, r : r + rows, c : c + cols] = 0.0
    expected = np.einsum("krc,lrc->kl", white, white)
    assert expected.max() > 100.0
    mine = slice(cell * chains, (cell + 1) * chains)
    np.testing.assert_allclose(outside[mine, mine], expected, atol=0.03 * expected.max())


def test_unknown_cells_are_free_where_states_are_compared_and_stay_where_steps_are_taken(alone):
    """What regions do not see of them is not free: only other pixels say what is there."""
    linear, state, journal = alone.linear, alone.state, alone.journal
    before = np.asarray(state.unknown.numbers)
    assert np.any(np.abs(before) > 0.1)  # they have been fitted
    settled, _ = settle(linear, state, journal, "test")
    np.testing.assert_array_equal(settled.unknown.numbers, before)
    spread = []
    for unknown_free in (True, False):
        here = alone.situation(state, unknown_free=unknown_free)
        spread.append(np.diagonal(here.inverse)[-before.size :].reshape(before.shape))
    unseen = ~alone.model.cells.near_unknown.any(axis=0)
    numbers = np.asarray(state.first) + before
    inside = (numbers > 1e-3) & (numbers < alone.model.most - 1e-3) & ~unseen[:, None]
    assert np.sum(inside) > 0.5 * np.sum(~unseen) * before.shape[1]
    assert np.all(spread[0][inside] > 1e-6)  # the others are at the end of what there is
    assert np.all(spread[0][~unseen] < 1.0 + 1e-6)  # at most as uncertain as their prior
    assert not np.any(spread[0][unseen])
    assert not np.any(spread[1])


def test_unknown_cells_are_drawn_back_to_where_they_were_fitted(alone):
    """By the pixels of the region, by other pixels and by their prior, as strongly as these say."""
    linear, state = alone.linear, alone.state
    unknown = slice(-linear.unknown.size, None)
    here = alone.situation(state).slope[unknown]
    np.testing.assert_allclose(here, 0.0, atol=1e-3)
    some = np.zeros(linear.unknown.shape)
    seen = np.flatnonzero(alone.model.cells.near_unknown.any(axis=0))
    some[seen] = 0.02 * np.random.default_rng(5).choice([-1.0, 1.0], size=some[seen].shape)
    numbers = np.asarray(state.unknown.numbers) + some * numbers_std(alone.model.per_cell)
    numbers = jnp.asarray(numbers, state.unknown.numbers.dtype)
    unknown_cells = dataclasses.replace(state.unknown, numbers=numbers)
    moved = dataclasses.replace(state, unknown=unknown_cells)
    found = alone.situation(moved).slope[unknown]
    expected = linear.hessian[unknown, unknown] @ some.ravel()
    assert np.max(np.abs(linear.products.nuisances[unknown, unknown] @ some.ravel())) > 0.5
    np.testing.assert_allclose(found, expected, atol=0.1 * np.max(np.abs(expected)))


def test_heights_of_regions_that_do_not_touch_are_found_together(column):
    """Of one that is right and one that is not."""
    model, right, fixed = column.model, column.state, np.ones(column.numbers.shape, dtype=bool)
    wrong = at_other_height(model, right, [3], Move(1))
    both = np.array([0, 3])
    found = _at_better_heights(model, wrong, column.journal, both, fixed)
    np.testing.assert_array_equal(
        found.stack.heights - found.stack.heights[0],
        right.stack.heights - right.stack.heights[0],
    )
    assert objective(model, found, column.journal) < objective(model, right, column.journal) + 5.0
    assert _at_better_heights(model, right, column.journal, both, fixed) is right


@pytest.mark.parametrize("units", [1, -1])
def test_a_region_at_a_wrong_height_is_found(column, units):
    model, right = column.model, column.state
    points = right.points.copy()
    points[2, INDEX["C1"]] -= units * model.unit_nm
    stack = stack_of(model, points, right.stack)
    wrong = dataclasses.replace(right, points=points, stack=stack)
    assert np.any(stack.heights - stack.heights[0] != right.stack.heights - right.stack.heights[0])
    fixed = np.ones(column.numbers.shape, dtype=bool)
    found, changed = better_heights(model, wrong, column.journal, fixed)
    assert changed
    np.testing.assert_array_equal(
        found.stack.heights - found.stack.heights[0],
        right.stack.heights - right.stack.heights[0],
    )
    assert objective(model, found, column.journal) < objective(model, right, column.journal) + 5.0
    same, changed = better_heights(model, right, column.journal, fixed)
    assert not changed
    assert same is right


def test_a_height_and_numbers_that_have_settled_around_it_are_changed_together(column, monkeypatch):
    monkeypatch.setattr(at_others, "TRIED", 1)  # it promises most
    model, journal = column.model, column.journal
    numbers = column.numbers.copy()
    for _, light in shared_columns(model.columns):
        numbers[2, light] += 1
    wrong = at_other_height(model, column.with_numbers(numbers), [2], Move(1))
    around = linearise(model, wrong, journal)
    wrong, _ = settle(around, wrong, journal, "test")
    found, changed = other_heights(around, wrong, journal, column.blocks)
    assert changed
    np.testing.assert_array_equal(
        found.stack.heights - found.stack.heights[0],
        column.state.stack.heights - column.state.stack.heights[0],
    )
    np.testing.assert_array_equal(whole_numbers(model, found), column.numbers)


def test_pixels_of_no_region_count_as_those_of_regions(column):
    """Each pixel of vacuum adds what its noise does."""
    model, state, journal = column.model, column.state, column.journal
    more = whole_objective(model, state, journal) - objective(model, state, journal)
    outside = model.problem.field.image.size - model.targets.size
    assert outside > 1000
    assert more / outside == pytest.approx(1.0, abs=0.1)


def test_a_right_height_is_kept(column, monkeypatch):
    monkeypatch.setattr(at_others, "TRIED", 2)
    state, changed = other_heights(column.linear, column.state, column.journal, column.blocks)
    assert not changed
    np.testing.assert_array_equal(state.stack.heights, column.state.stack.heights)
    np.testing.assert_array_equal(state.stack.begins, column.state.stack.begins)  # without a step


def relaxed_with_entrance(column, entrance):
    """The field with numbers relaxed behind another beginning of the crystal."""
    model, state = begin(column.model, column.state, entrance)
    free = np.zeros(column.numbers.shape, dtype=bool)
    return model, again(model, state, column.journal, "relaxed field", free), free


def test_the_plane_that_a_crystal_begins_with_is_found(column, monkeypatch):
    monkeypatch.setattr(SpecimenSettings, "entrance_sought", True)
    monkeypatch.setattr(entrance, "ROUNDS", 1)  # a second one says the same
    model, state, free = relaxed_with_entrance(column, 3)
    found, better = best_entrance(model, state, column.journal, free)
    assert found.sites.entrance == 0
    numbers = whole_numbers(found, surest_numbers(found, better))
    # of 32 (behind the plane that it started from 8 are wrong, however long it is fitted)
    assert np.sum(numbers != column.numbers) <= 3


def test_behind_another_beginning_regions_are_fitted_with_it(column):
    model, state = begin(column.model, column.state, 2)
    here = slice(0, 1)
    found = state.weights.fit.images(state.points[here])
    wanted = fitter(model.regions, state.weights.noise).images(state.points[here])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    before = column.state.weights.fit.images(state.points[here])
    assert np.std(np.asarray(found) - np.asarray(before)) > 1e-3
    # each column of atoms stays, on the whole, where it was along the beam
    numbers = whole_numbers(model, state)[0]

    def middle(m, points):
        sites, c1 = m.sites, points[0, INDEX["C1"]]
        depth = m.sites.slice[sites.occupied(numbers)].mean() * m.columns.slice_nm
        return sites.stack * m.columns.slice_nm - depth + c1

    moved = middle(model, state.points) - middle(column.model, snapped(column.model, column.state))
    assert abs(moved) < 0.3 * model.unit_nm


def test_a_beginning_that_is_given_is_not_looked_for(column):
    free = np.zeros(column.numbers.shape, dtype=bool)
    assert best_entrance(column.model, column.state, column.journal, free) == (
        column.model,
        column.state,
    )


def test_other_weights_need_other_vectors(column):
    other = weights(column.model, NoiseModel(2e-4))
    state = dataclasses.replace(column.state, weights=other)
    with pytest.raises(ValueError, match="other weights"):
        column.situation(state)


def gain_left(column, state):
    """What the best step of the nuisances is foretold to take off the objective."""
    here = column.situation(state, unknown_free=False)
    return float(here.slope @ here.inverse @ here.slope)


def test_steps_end_where_the_model_sees_no_more_gain(column):
    before = objective(column.model, column.state, column.journal)
    foretold = gain_left(column, column.state)
    state, found = settle(column.linear, column.state, column.journal, "test")
    assert found == pytest.approx(objective(column.model, state, column.journal))
    assert before - found == pytest.approx(foretold, abs=0.2 * foretold)
    assert gain_left(column, state) < 0.01 * foretold
    assert foretold > 100.0


def test_changes_that_reach_further_than_thought_are_simulated_alone(column):
    cells, own = column.model.cells, REGIONS * column.model.nuisances.own
    assert [0, 3] in apart(cells.near)
    nothing = dataclasses.replace(cells, near=np.eye(REGIONS, dtype=bool))
    assert apart(nothing.near) == [[0, 1, 2, 3]]
    model = dataclasses.replace(column.model, cells=nothing)
    blind = linearise(model, column.state, column.journal)
    changes = blind.vectors.changes
    order = {tuple(c): k for k, c in enumerate(changes)}
    same = [order[tuple(c)] for c in column.linear.vectors.changes]
    gram = column.linear.products.among(column.every)[: len(same), : len(same)]
    found = blind.products.among(column.every)[np.ix_(same, same)]
    np.testing.assert_allclose(found, gram, atol=0.02 * gram.max())
    assert len(changes) == len(same)
    # so are the parameters of the regions
    one, other = (np.diagonal(x.products.nuisances)[:own] for x in (blind, column.linear))
    np.testing.assert_allclose(one, other, rtol=0.1, atol=1e-3 * other.max())


def test_changes_cost_what_they_add_to_the_objective(column):
    """Constraints included, from numbers that themselves cost something."""
    search = search_around(column.linear, column.state, column.journal)
    states, _ = search._changes(column.numbers.ravel())
    penalties = search.penalty(states)
    here = states[np.flatnonzero((penalties > 0.0) & np.isfinite(penalties))[0]]
    found, costs = search._changes(here)
    before = (search.integers(here[None]) + search.penalty(here[None]))[0]
    after = search.integers(found) + search.penalty(found)
    possible = np.isfinite(after)
    assert possible.sum() > 100
    np.testing.assert_allclose(costs[possible], after[possible] - before, atol=1e-6 * before)
    assert not np.any(np.isfinite(costs[~possible]))
    impossible = here.copy()
    impossible[0] = np.max(search.model.most) + 1
    assert np.isinf(search.penalty(impossible[None])).all()  # alone
    for state in found[possible][:20]:  # as the rules say of each region alone
        rows = state.reshape(column.numbers.shape)
        alone = sum(float(search.model.constraints.penalty(row[None])[0]) for row in rows)
        assert search.penalty(state[None])[0] == pytest.approx(alone)


def test_numbers_beside_a_region_are_looked_at_with_all_others_as_they_are(column):
    search = search_around(column.linear, column.state, column.journal)
    regions = np.array([1, 2])
    part = search_among(column.linear, column.situation(column.state), regions)
    states, costs = part.candidates()
    possible = np.flatnonzero(np.isfinite(costs))
    assert len(possible) > 100
    for k in possible[np.argsort(costs[possible])][::40][:20]:
        numbers = column.numbers.copy()
        numbers[regions] = states[k].reshape(len(regions), -1)
        whole = search.integers(numbers.reshape(1, -1)) + search.penalty(numbers.reshape(1, -1))
        assert whole[0] == pytest.approx(search.cost + costs[k] - part.cost, abs=1e-6 * search.cost)
    # and the best of them is the best of all that differ there alone
    every, all_costs = search.candidates()
    there = every.reshape(-1, *column.numbers.shape) != column.numbers
    alone = ~np.any(there[:, [0, 3]], axis=(1, 2))
    best = search.cost + costs[possible].min() - part.cost
    assert best <= all_costs[alone].min() + 1e-6 * search.cost


def test_products_are_those_of_all_vectors(column):
    vectors, products = column.linear.vectors, column.linear.products
    size, count = len(vectors.owners), vectors.count
    gram = np.zeros((size, size))
    for block in vectors.patches:
        part = block.vectors.astype(float)
        gram[np.ix_(block.index, block.index)] += part @ part.T
    close = {"rtol": 1e-9, "atol": 1e-9 * gram.max()}
    np.testing.assert_allclose(products.nuisances, gram[count:, count:], **close)
    for regions in (column.every, np.array([1, 3])):
        mine = np.flatnonzero(np.isin(vectors.owners, regions))
        np.testing.assert_allclose(products.among(regions), gram[np.ix_(mine, mine)], **close)
        rows, across = products.between(regions)
        np.testing.assert_allclose(across, gram[np.ix_(count + rows, mine)], **close)
        others = np.setdiff1d(np.arange(size - count), rows)
        assert not np.any(gram[np.ix_(count + others, mine)])
    assert len(vectors.joint)


def test_the_objective_of_other_numbers_is_what_the_search_says(column):
    changed = some_changes(column)
    for present in (column.numbers, changed):
        state = column.with_numbers(present)
        search = search_around(column.linear, state, column.journal)
        here = column.situation(state)
        for numbers in (column.numbers, changed):
            expected = search.integers(numbers.reshape(1, -1))[0]
            assert foretold(column.linear, here, numbers) == pytest.approx(expected, rel=1e-9)
        assert here.objective == pytest.approx(foretold(column.linear, here, present))
        part = search_among(column.linear, here, np.array([1, 2]))
        numbers = present.copy()
        numbers[1:3] = column.numbers[1:3]
        expected = part.integers(column.numbers[1:3].reshape(1, -1))[0]
        assert foretold(column.linear, here, numbers) == pytest.approx(expected, rel=1e-9)


def test_what_one_of_two_regions_does_that_move_together(column):
    """They touch no pixel in common, so each is seen as if it moved alone."""
    model, state, linear = column.model, column.state, column.linear
    missed = column.residuals(state)
    both = column.residuals(at_other_height(model, state, [0, 3], Move(1)))
    beside = np.flatnonzero(linear.reach[:, 3])
    found = seen_beside(linear, seen(linear, missed), missed, both, beside)
    alone = seen(linear, column.residuals(at_other_height(model, state, [3], Move(1))))
    assert found.chi2 - np.sum(missed**2) > 100.0
    assert found.chi2 == pytest.approx(alone.chi2, abs=0.02 * (alone.chi2 - np.sum(missed**2)))
    change = alone.products - linear.vectors.along(missed)
    np.testing.assert_allclose(found.products, alone.products, atol=0.03 * np.max(np.abs(change)))


def test_changes_side_by_side_are_kept_one_by_one(column):
    """Of a change that helps and one that does not, in regions that do not touch."""
    settled, at_truth = settle(column.linear, column.state, column.journal, "truth")
    numbers = column.numbers.copy()
    numbers[0, 4] += 1
    wrong = column.with_numbers(numbers, settled.points)
    value = whole_objective(column.model, wrong, column.journal)
    worse = column.numbers[[3]].copy()
    worse[0, 0] -= 1
    right = Proposal(np.array([0]), column.numbers[[0]], 100.0, b"right")
    proposals = [right, Proposal(np.array([3]), worse, 50.0, b"worse")]
    assert len(side_by_side(proposals, column.linear.vectors.near)) == 2
    touching = Proposal(np.array([1]), column.numbers[[1]], 1.0, b"touching")
    assert side_by_side([*proposals, touching], column.linear.vectors.near) == proposals
    found = tried(column.linear, wrong, value, column.journal, proposals, 0.2, "test")
    assert found.kept == [right]
    assert found.refused == proposals[1:]
    np.testing.assert_array_equal(whole_numbers(column.model, found.state), column.numbers)
    assert found.value < value - 50.0
    assert objective(column.model, found.state, column.journal) < at_truth + 1.0
    none = tried(column.linear, column.state, at_truth, column.journal, proposals[1:], 0.2, "test")
    assert none.state is column.state
    assert not none.kept
    assert none.refused == proposals[1:]


def test_an_objective_that_is_no_number_is_no_better(column, monkeypatch):
    monkeypatch.setattr(trials, "with_numbers", lambda linear, state, *rest: (state, np.nan))
    one = Proposal(np.array([0]), column.numbers[[0]], 1.0, b"one")
    found = tried(column.linear, column.state, 10.0, column.journal, [one], 0.2, "test")
    assert (found.state, found.value, found.kept) == (column.state, 10.0, [])


def test_several_wrong_numbers_are_found_together(column):
    """In two blocks that touch (tests of the stage have one)."""
    model, journal = column.model, column.journal
    settled, at_truth = settle(column.linear, column.state, journal, "truth")
    wrong = column.with_numbers(some_changes(column), settled.points)
    blocks = blocks_of(model.cells, (2, 2))
    assert len(blocks) == 2
    _, state, counts = certify(Standing(model, wrong, len(REFINING)), journal, 1, blocks)
    found = np.rint(state.points[:, model.layout.counts])
    assert objective(model, state, journal) < at_truth + 1.0
    probability = np.array(
        [
            counts.beliefs[k].numbers[c].get(int(n), 0.0)
            for k, row in enumerate(column.numbers)
            for c, n in enumerate(row)
        ]
    )
    # a number may be another than the true one only where the image leaves that open
    assert np.sum(found != column.numbers) <= 2
    assert np.all(probability > 0.02)
    assert np.mean(-np.log(probability)) < 0.15
    assert counts.certified.all()
