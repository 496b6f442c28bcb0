"""Numbers that change now and then, against all sequences there are."""

import itertools

import numpy as np
import pytest

from qhrtem_jax.series.chain import follow, log_transitions


@pytest.mark.parametrize("rate", [1e-3, 0.2])
def test_transitions_are_probabilities(rate):
    steps = np.exp(log_transitions(5, rate))
    np.testing.assert_allclose(steps.sum(axis=1), 1.0)
    assert steps[2, 3] == pytest.approx(0.5 * rate)
    assert steps[2, 4] == pytest.approx(0.5 * rate**2)


def test_paths_are_those_of_all_sequences():
    rng = np.random.default_rng(3)
    likelihood = 2.0 * rng.normal(size=(5, 3))
    likelihood[2, 0] = -np.inf  # cannot be
    steps = log_transitions(3, 0.2)
    found = follow(likelihood, steps)
    every = list(itertools.product(range(3), repeat=5))
    weight = np.array(
        [
            sum(likelihood[t, n] for t, n in enumerate(values))
            + sum(steps[a, b] for a, b in itertools.pairwise(values))
            for values in every
        ]
    )
    probability = np.exp(weight - np.logaddexp.reduce(weight))
    assert tuple(found.best) == every[int(np.argmax(weight))]
    for t in range(5):
        for n in range(3):
            expected = probability[[values[t] == n for values in every]].sum()
            assert found.probability[t, n] == pytest.approx(expected, abs=1e-12)
    for t in range(4):
        for a, b in itertools.product(range(3), repeat=2):
            expected = probability[[v[t] == a and v[t + 1] == b for v in every]].sum()
            assert found.pairs[t, a, b] == pytest.approx(expected, abs=1e-12)


def test_a_single_odd_frame_is_no_event():
    """One frame that likes another number a little is noise; a lasting change is dated."""
    likelihood = np.full((9, 3), -4.0)
    likelihood[:, 1] = 0.0
    likelihood[3] = [0.0, -3.0, -4.0]
    steps = log_transitions(3, 0.01)
    assert set(follow(likelihood, steps).best) == {1}
    likelihood[6:] = [0.0, -4.0, -8.0]
    path = follow(likelihood, steps)
    assert path.best.tolist() == [1] * 6 + [0] * 3
    assert path.pairs[5, 1, 0] > 0.9
