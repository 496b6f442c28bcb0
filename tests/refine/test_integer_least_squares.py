"""Integer least squares against enumeration and against the objective itself."""

import dataclasses
import itertools

import numpy as np
import pytest

from qhrtem_jax.refine.integer_least_squares import (
    IntegerModel,
    Numbering,
    nearest_integers,
    probabilities,
)


def test_the_nearest_whole_numbers_are_enumerated():
    rng = np.random.default_rng(2)
    most = np.array([4, 3, 5, 3])
    every = np.array(list(itertools.product(*(range(m + 1) for m in most))), dtype=float)
    for _ in range(5):
        root = rng.normal(size=(4, 4)) + np.array([3.0, 3.0, 0.0, 0.0])  # two that trade atoms
        precision = root.T @ root + 0.05 * np.eye(4)
        mean = rng.uniform(0.0, 4.0, size=4)
        off = every - mean
        cost = np.einsum("na,ab,nb->n", off, precision, off)
        expected = every[np.argsort(cost)[:12]]
        found = nearest_integers(mean, precision, np.zeros(4), most, 100)
        np.testing.assert_array_equal(found[:12], expected)
    none = nearest_integers(np.full(4, np.nan), np.eye(4), np.zeros(4), most, 12)
    assert none.shape == (0, 4)


def least_squares(rng, numbers=5, pixels=40, nuisances=3):
    """(model of whole numbers, its exact objective): a residual that is linear in nuisances, in the
    atoms added and, differently, in the atoms removed."""
    base = np.array([2.0, 0.0, 3.0, 1.0, 2.0])
    most = np.array([4.0, 3.0, 3.0, 4.0, 4.0])
    more = rng.normal(size=(numbers, pixels))
    more[1] = -0.9 * more[0] + 0.2 * more[1]  # two that trade atoms
    less = -more + 0.1 * rng.normal(size=more.shape)
    together = rng.normal(size=(2, pixels))
    joint = np.array([[0, 3, 2, 1, 10, 1], [0, 4, 2, 1, 10, 2], [3, 0, 4, 4, 11, 1]])
    jacobian = rng.normal(size=(nuisances, pixels))
    residual = 3.0 * rng.normal(size=pixels)
    vectors = np.concatenate([more, less, together])
    inverse = np.linalg.inv(jacobian @ jacobian.T + np.eye(nuisances))
    across = jacobian @ vectors.T

    def exact(state):
        step = state - base
        r = residual + np.maximum(step, 0) @ more + np.maximum(-step, 0) @ less
        for i, n, j, m, change, often in joint:
            if state[i] == n and state[j] == m:
                r = r + often * together[change - 10]
        u = -inverse @ (jacobian @ r)
        return np.sum((r + u @ jacobian) ** 2) + u @ u

    slope = jacobian @ residual
    steps = np.arange(5)[None] - base[:, None]
    rows = np.arange(numbers)[:, None]
    model = IntegerModel(
        Numbering(
            base,
            np.where(steps > 0, rows, np.where(steps < 0, numbers + rows, -1)),
            np.abs(steps),
            joint,
            np.zeros(numbers),
            most,
            len(vectors),
        ),
        float(residual @ residual - slope @ inverse @ slope),
        vectors @ residual - across.T @ inverse @ slope,
        vectors @ vectors.T - across.T @ inverse @ across,
    )
    return model, exact


def singles(which):
    """Numbers, 0 or 1, each made by a change of its own."""
    size, none = len(which), np.zeros((0, 6), dtype=int)
    made = (which >= 0).astype(float)
    return Numbering(np.zeros(size), which, made, none, np.zeros(size), np.ones(size), size)


def every_state(model):
    ranges = (
        range(int(a), int(b) + 1)
        for a, b in zip(model.numbering.low, model.numbering.high, strict=True)
    )
    return np.array(list(itertools.product(*ranges)), dtype=float)


def test_objectives_have_the_nuisances_at_their_best():
    model, exact = least_squares(np.random.default_rng(0))
    states = every_state(model)
    np.testing.assert_allclose(model(states), [exact(s) for s in states], rtol=1e-10)


def test_the_best_of_all_numbers_is_among_those_nearest_to_the_relaxed_ones():
    for seed in range(8):
        model, _ = least_squares(np.random.default_rng(seed))
        states = every_state(model)
        best = states[np.argmin(model(states))]
        numbering = model.numbering
        relaxed = model.relaxed(numbering.base, np.zeros((5, 5)), np.zeros(5))
        found = nearest_integers(*relaxed, numbering.low, numbering.high, 200)
        costs = model(found)
        np.testing.assert_array_equal(found[np.argmin(costs)], best)


@pytest.mark.parametrize("chosen", [[0, 1, 2], [1, 3, 4], [1]])
def test_some_numbers_with_the_others_as_they_are(chosen):
    model, _ = least_squares(np.random.default_rng(3))
    state = np.array([3.0, 1.0, 2.0, 0.0, 4.0])
    part = model.conditional(state, np.array(chosen), model.slope(state))
    states = every_state(part)
    whole = np.tile(state, (len(states), 1))
    whole[:, chosen] = states
    at_base = state.copy()
    at_base[chosen] = model.numbering.base[chosen]
    np.testing.assert_allclose(part(states), model(whole) - model(at_base[None]), atol=1e-9)


def test_many_numbers_are_found_where_single_changes_are_not_enough():
    """Sixty numbers of which neighbours trade atoms: rounding fails, the search does not."""
    rng = np.random.default_rng(5)
    size = 60
    true = rng.integers(0, 8, size).astype(float)
    design = rng.normal(size=(200, size))
    design[:, 1::2] = -0.93 * design[:, ::2] + 0.25 * design[:, 1::2]
    precision = design.T @ design
    noise = np.linalg.solve(precision, design.T @ rng.normal(size=200))
    rounded = np.rint(true + noise)
    found = nearest_integers(true + noise, precision, np.zeros(size), np.full(size, 7.0), 500)
    cost = (found - true - noise) @ precision
    cost = np.sum(cost * (found - true - noise), axis=1)
    assert np.all(np.diff(cost) >= -1e-9)
    at_truth = noise @ precision @ noise
    assert cost[0] <= at_truth
    assert np.mean(rounded == true) < 0.98
    assert np.mean(found[0] == true) > np.mean(rounded == true)


@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_all_states(seed):
    sharp, _ = least_squares(np.random.default_rng(seed))
    # as in an image with more noise
    model = dataclasses.replace(sharp, linear=0.03 * sharp.linear, quadratic=0.03 * sharp.quadratic)
    states = every_state(model)

    def penalty(rows):
        return np.where(rows[:, 2] == 3, 2.0, 0.0) + np.where(rows[:, 4] == 0, np.inf, 0.0)

    costs = model(states) + penalty(states)
    weight = np.exp(-0.5 * (costs - costs.min()))
    weight /= weight.sum()
    expected = np.array(
        [[weight[states[:, k] == n].sum() for n in range(5)] for k in range(states.shape[1])]
    )
    assert np.sum(expected > 0.05) > 7  # most numbers are open
    best = states[np.argsort(costs)[:40]]
    rng = np.random.default_rng(7)
    found = probabilities(model, penalty, best[0], best[1:] - best[0], 3000, rng).probability
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_many_independent_doubts_do_not_vanish():
    """With 60 open numbers no list of states holds a share of the probability that matters."""
    size, odds = 60, 2.0 * np.log(0.72 / 0.28)
    which = np.stack([np.full(size, -1), np.arange(size)], axis=1)
    numbering = singles(which)
    model = IntegerModel(numbering, 0.0, np.zeros(size), odds * np.eye(size))
    rng, none = np.random.default_rng(0), np.zeros((0, size))
    found = probabilities(
        model, lambda s: np.zeros(len(s)), np.zeros(size), none, 20, rng
    ).probability
    np.testing.assert_allclose(found[:, 1], 0.28, atol=1e-6)


def test_steps_lead_where_single_changes_do_not():
    """Two numbers that only change together: 1, 0 and 0, 1 are alike, all else is far off."""
    values = np.array([[-1, 0], [-1, 1]])
    model = IntegerModel(singles(values), 50.0, np.full(2, -50.0), np.full((2, 2), 50.0))
    costs = model(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(costs, [50.0, 0.0, 0.0, 50.0])

    def share(steps):
        rng, start = np.random.default_rng(3), np.array([1.0, 0.0])
        return probabilities(
            model, lambda s: np.zeros(len(s)), start, steps, 2000, rng
        ).probability[0, 1]

    assert share(np.zeros((0, 2))) > 0.99
    assert share(np.array([[-1.0, 1.0]])) == pytest.approx(0.5, abs=0.05)
