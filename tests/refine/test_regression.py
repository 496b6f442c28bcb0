"""Lines through values whose errors go together."""

import numpy as np
import pytest

from qhrtem_jax.refine.regression import line_through

AT = np.array([0.0, 0.4, 1.1, 1.5, 2.2, 3.0, 3.1, 4.0, 4.6])


def covariance(common):
    """Independent errors, one that all share, and one that grows along the line."""
    own = np.diag(np.linspace(0.5, 1.5, len(AT)) ** 2)
    return own + common * (np.ones((len(AT),) * 2) + 0.3 * np.outer(AT - 2.0, AT - 2.0))


def test_it_is_least_squares_where_errors_are_alone_and_alike():
    values = 3.0 - 0.7 * AT + 0.1 * np.sin(9.0 * AT)
    line = line_through(AT, values, 0.04 * np.eye(len(AT)))
    slope, _ = np.polyfit(AT, values, 1)
    assert line.slope == pytest.approx(slope)
    assert line.mean == pytest.approx(values.mean())
    assert line.std_slope == pytest.approx(0.2 / np.sqrt(np.sum((AT - AT.mean()) ** 2)), rel=1e-3)
    assert line.scatter == 0.0
    assert line.p_value < 1e-3


@pytest.mark.parametrize(("common", "scatter"), [(0.0, 0.0), (2.0, 0.0), (2.0, 3.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(common, scatter):
    """95 % intervals of the slope, and significance where there is none."""
    known, rng = covariance(common), np.random.default_rng(1)
    root = np.linalg.cholesky(known + scatter**2 * np.eye(len(AT)))
    held, significant, means = [], [], []
    for _ in range(400):
        line = line_through(AT, 5.0 + root @ rng.normal(size=len(AT)), known)
        held.append(abs(line.slope) < 2.365 * line.std_slope)  # Student, 7 degrees of freedom
        significant.append(line.p_value < 0.05)
        means.append((line.mean - 5.0) / line.std_mean)
    assert 0.92 < np.mean(held) < 0.995
    assert held == [not s for s in significant]
    assert 0.8 < np.std(means) < 1.25


def test_scatter_is_told_from_errors():
    known, rng = covariance(1.0), np.random.default_rng(2)
    root = np.linalg.cholesky(known + 9.0 * np.eye(len(AT)))
    found = [line_through(AT, root @ rng.normal(size=len(AT)), known).scatter for _ in range(200)]
    assert np.median(found) == pytest.approx(3.0, rel=0.2)


def test_too_few_values_make_no_line():
    assert line_through(AT[:3], AT[:3], np.eye(3)) is None
    assert line_through(np.ones(5), np.arange(5.0), np.eye(5)) is None
