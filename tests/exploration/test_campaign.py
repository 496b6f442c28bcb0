"""Asking for places and telling what was found there."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.bayesopt.candidates import UTILITIES
from qhrtem_jax.exploration.campaign import Strategy, ask, begin, predict, tell

PLACES = 10.0 * np.stack(np.meshgrid(np.arange(24), np.arange(24), indexing="ij"), -1).reshape(
    -1, 2
)
PEAK = np.array([180.0, 60.0])


def landscape(places):
    """One smooth hill, and a little noise that is the same each time."""
    hill = np.exp(-0.5 * np.sum((places - PEAK) ** 2, axis=-1) / 30.0**2)
    return hill + 0.02 * np.sin(places[..., 0]) * np.cos(1.7 * places[..., 1])


def explored(strategy, points=60, batch=6):
    state = begin(PLACES, strategy)
    while len(state.measured) < points:
        chosen = ask(state, min(batch, points - len(state.measured)))
        state = tell(state, chosen, landscape(PLACES[chosen]))
    return state


STRATEGY = Strategy(length_px=40.0, expected_points=150)


@pytest.mark.parametrize("acquisition", UTILITIES)
def test_the_hill_is_found_and_no_place_is_measured_twice(acquisition):
    state = explored(dataclasses.replace(STRATEGY, acquisition=acquisition))
    assert len(set(state.measured.tolist())) == len(state.measured) == 60
    assert state.values.max() > 0.95
    on_hill = np.hypot(*(PLACES - PEAK).T) < 40.0
    share = np.mean(np.isin(np.flatnonzero(on_hill), state.measured))
    at_random = 60 / len(PLACES)
    assert share > 3.0 * at_random


def test_errors_are_those_of_the_reconstruction():
    state = explored(STRATEGY)
    mean, std = predict(state)
    unseen = np.setdiff1d(np.arange(len(PLACES)), state.measured)
    pulls = (mean - landscape(PLACES))[unseen] / std[unseen]
    assert 0.3 < np.sqrt(np.mean(pulls**2)) < 1.5
    assert np.all(std[state.measured] < np.median(std[unseen]))
    assert np.sqrt(np.mean((mean - landscape(PLACES)) ** 2)) < 0.06


def test_a_cost_of_the_way_shortens_it():
    free, dear = explored(STRATEGY), explored(dataclasses.replace(STRATEGY, path_cost=2.0))
    assert dear.way_px < 0.5 * free.way_px
    assert dear.values.max() > 0.95


def test_the_way_is_that_between_places():
    state = tell(begin(PLACES, STRATEGY), np.array([0, 23, 24]), np.zeros(3))
    assert state.way_px == pytest.approx(230.0 + np.hypot(10.0, 230.0))


def test_it_begins_in_the_middle_and_ends_when_all_is_measured():
    places = PLACES[:10]
    state = begin(places, STRATEGY)
    first = ask(state, 4)
    assert np.hypot(*(places[first[0]] - places.mean(axis=0))) < 10.0
    while len(state.measured) < len(places):
        chosen = ask(state, 4)
        state = tell(state, chosen, landscape(places[chosen]))
    assert sorted(state.measured.tolist()) == list(range(10))
    assert len(ask(state, 4)) == 0


def test_a_length_that_is_given_is_kept():
    """Places further from all points than a short length are not known at all."""
    short = dataclasses.replace(STRATEGY, length_px=2.0, known=True)
    state = explored(short, points=20)
    _, std = predict(state)
    unseen = np.setdiff1d(np.arange(len(PLACES)), state.measured)
    assert std[unseen].min() > 0.9 * std[unseen].max()


def test_what_was_not_measured_is_refused():
    state = begin(PLACES, STRATEGY)
    with pytest.raises(ValueError, match="expected a finite value of each"):
        tell(state, np.array([0]), np.array([np.nan]))


@pytest.mark.parametrize("acquisition", UTILITIES)
def test_a_small_feature_is_found(acquisition):
    """One that few places see, in noise."""
    rng = np.random.default_rng(1)
    values = (np.hypot(*(PLACES - PEAK).T) < 15.0) + 0.03 * rng.normal(size=len(PLACES))
    state = begin(PLACES, dataclasses.replace(STRATEGY, acquisition=acquisition))
    while len(state.measured) < 150:
        chosen = ask(state, 10)
        state = tell(state, chosen, values[chosen])
    assert state.values.max() > 0.8
