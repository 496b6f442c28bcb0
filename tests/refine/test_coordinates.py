"""Unit cube, values, bounded steps and priors; bounds of whole points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.bounds import LARGEST_STRETCH, point_bounds
from qhrtem_jax.refine.coordinates import make_coordinates

LOW, HIGH = np.array([-1.0, 2.0, 0.0, 10.0]), np.array([3.0, 7.0, 1.0, 30.0])
MEAN, STD = np.array([0.0, 3.0, 0.0, 0.0]), np.array([np.inf, 0.5, np.inf, 4.0])
POINTS = np.array([[0.5, 4.0, 0.25, 12.0], [2.5, 6.5, 0.75, 29.0]])


@pytest.fixture
def coordinates():
    return make_coordinates([3, 1], LOW, HIGH, MEAN, STD, jnp.dtype("float64"))


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
def test_values_and_unit_cube_are_inverses(coordinates, as_array):
    points = as_array(POINTS)
    unit = coordinates.to_unit(points)
    assert isinstance(unit, type(points))
    np.testing.assert_allclose(unit, [[0.1, 0.4], [0.95, 0.9]])
    np.testing.assert_allclose(coordinates.to_values(unit), POINTS[:, [3, 1]])
    placed = coordinates.place(points, 1.0 - unit)
    np.testing.assert_allclose(placed[0], [0.5, 5.0, 0.25, 28.0])
    np.testing.assert_array_equal(points, POINTS)


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
def test_a_step_stops_at_the_bounds_and_leaves_what_does_not_move(coordinates, as_array):
    points = POINTS.copy()
    points[1, 1] = 8.0  # beyond its bound
    moved = coordinates.step(as_array(points), as_array(np.array([[0.2, -0.6], [0.2, 0.0]])))
    np.testing.assert_allclose(moved, [[0.5, 2.0, 0.25, 16.0], [2.5, 8.0, 0.75, 30.0]])


def test_pulls_are_the_priors_in_standard_deviations(coordinates):
    pull = coordinates.pull(coordinates.to_unit(POINTS))
    np.testing.assert_allclose(pull, [[12.0 / 4.0, 1.0 / 0.5], [29.0 / 4.0, 3.5 / 0.5]])
    free = make_coordinates([0, 2], LOW, HIGH, MEAN, STD, jnp.dtype("float64"))
    np.testing.assert_array_equal(free.pull(free.to_unit(POINTS)), 0.0)
    np.testing.assert_array_equal(free.host().precision, 0.0)


def test_half_the_gradient_of_the_priors_is_the_pull_over_the_deviation(coordinates):
    unit = jnp.array([0.3, 0.8])
    slope = jax.grad(lambda u: jnp.sum(coordinates.pull(u) ** 2))(unit)
    np.testing.assert_allclose(
        0.5 * slope, coordinates.pull(unit) / coordinates.prior_std, rtol=1e-12
    )
    numeric = [
        np.sum(coordinates.pull(np.asarray(unit) + s) ** 2 - coordinates.pull(unit - s) ** 2) / 4e-5
        for s in 1e-5 * np.eye(2)
    ]
    np.testing.assert_allclose(0.5 * slope, numeric, rtol=1e-6)


def test_bounds_are_values():
    layout = Layout(2, 3)
    first = point_bounds(layout)
    bounds = first.with_imaging("C1", -5.0, 5.0, 1.0, 2.0).with_imaging("A0_x", -0.1, 0.1)
    c1 = INDEX["C1"]
    assert (first.imaging, bounds.imaging) == ((), ("C1", "A0_x"))
    assert (first.high[c1], bounds.high[c1], bounds.mean[c1], bounds.std[c1]) == (1.0, 5.0, 1.0, 2)
    wide = bounds.with_reach("C1", 3.0, 4.0).without_priors("C1")
    assert (wide.low[c1], wide.high[c1], wide.std[c1]) == (-5.0, 7.0, np.inf)
    assert (bounds.high[c1], bounds.std[c1]) == (5.0, 2.0)
    moved = bounds.with_offset("C1", -2.0)
    assert (moved.low[c1], moved.high[c1], moved.mean[c1]) == (-7.0, 3.0, -1.0)
    vector = np.zeros(layout.size)
    vector[c1], vector[INDEX["A0_x"]] = 6.0, -0.3
    held = bounds.with_vector(vector)
    assert (held.high[c1], held.low[INDEX["A0_x"]]) == (6.0, -0.3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bounds.imaging = ()  # pyright: ignore[reportAttributeAccessIssue]


def test_bounds_of_the_structure():
    layout = Layout(2, 3)
    bounds = point_bounds(layout).with_shifts(0.01).with_counts(np.array([4.0, 5.0, 6.0]))
    bounds = bounds.with_occupancies(np.array([1.0, 0.5, 0.25]), 0.1)
    assert bounds.with_mtf_stretch(0.0).camera == ()
    bounds = bounds.with_mtf_stretch(0.02)
    assert bounds.camera == tuple(bounds.of(layout.mtf_stretch))
    np.testing.assert_array_equal(bounds.high[layout.mtf_stretch], LARGEST_STRETCH * 0.02)
    np.testing.assert_array_equal(bounds.high[layout.counts], [4.0, 5.0, 6.0])
    np.testing.assert_array_equal(bounds.low[layout.counts], 0.0)
    np.testing.assert_array_equal(bounds.mean[layout.occupancies], [1.0, 0.5, 0.25])
    coordinates = bounds.coordinates(bounds.of(layout.occupancies), jnp.dtype("float64"))
    np.testing.assert_allclose(coordinates.prior_mean, [1.0, 0.5, 0.25])
    np.testing.assert_allclose(coordinates.prior_std, 0.1)
