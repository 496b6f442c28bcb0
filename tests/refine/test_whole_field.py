"""Gauss-Newton steps over a whole field against the dense least-squares solution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.matching.likelihood import make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.field import make_field
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.coordinates import make_coordinates
from qhrtem_jax.refine.unknown_cells import UnknownCells, fit_unknown
from qhrtem_jax.refine.whole_field import (
    Changes,
    Eliminated,
    Placement,
    Tangents,
    WholeField,
    gauss_newton,
    tangent_residuals,
    whitened,
    with_changes,
)
from tests.physics import crystal as sto

COLUMNS = columns_of(sto.crystal())
LAYOUT = Layout(len(COLUMNS.xy), len(COLUMNS.chains))
ROWS, COLS = 38, 54
SHAPE = (2, 3)
OWN = [INDEX["A0_x"], INDEX["A0_y"], *range(LAYOUT.counts.start, LAYOUT.counts.stop)]
DRIFT = np.array([[0.004, -0.002], [-0.003, 0.001]])
DAMPING = 5.0
NOISE = NoiseModel(1e-4, (0.5, 0.1))
SHARED = [INDEX[name] for name in ("A1_x", "tilt_y", "C1", "focus_spread")]


@pytest.fixture(scope="module")
def case():
    return make_case()


def make_case():
    """(model, coordinates, points) of two regions side by side and one unknown cell."""
    sampling = (0.0102, 0.0102)
    field = make_field(
        COLUMNS,
        SHAPE,
        5,
        Microscope(mtf=sto.MTF),
        Frame((ROWS, 2 * COLS), sampling),
        grid_shape=(24, 36),
        image_shape=(20, 28),
        precision="float64",
    )
    per_cell = COLUMNS.atoms_per_cell()
    above = np.array([1.0, 0.0]) * COLUMNS.size_nm[2]
    counts = np.array([3 * per_cell - 0.3, 4 * per_cell - 0.3])
    vector = sto.vector(C1=4.0, A1_x=0.8, tilt_y=1.5)
    points = np.array(
        [LAYOUT.point(vector, np.zeros((LAYOUT.columns, 2)), c, np.ones(8)) for c in counts]
    )
    points[:, INDEX["C1"]] += above
    points[:, INDEX["A0_y"]] -= above * 1.5e-3
    points[:, [INDEX["A0_x"], INDEX["A0_y"]]] += DRIFT
    placement = Placement(
        LAYOUT,
        SHAPE[0] * SHAPE[1],
        jnp.array([0, 1]),
        jnp.array([2]),
        jnp.array([1]),
        jnp.asarray(above),
        jnp.asarray(DRIFT),
        jnp.asarray(counts),
        jnp.ones((2, 8)),
        jnp.full((2, 8), -0.3),
        jnp.ones(8),
        jnp.asarray(counts[1:]),
        jnp.ones((1, 8)),
        jnp.asarray(5.0 * per_cell),
        UnknownCells(jnp.zeros((1, 8)), jnp.zeros((1, LAYOUT.columns, 2))),
    )
    rng = np.random.default_rng(0)
    image = np.asarray(field.image(placement.state(jnp.asarray(points))))
    image = image + 0.01 * rng.normal(size=image.shape)
    targets = np.array([image[:, :COLS], image[:, COLS:]])
    model = WholeField(
        field,
        placement,
        make_likelihood(NOISE, (ROWS, COLS), jnp.dtype("float64")),
        jnp.asarray(targets),
        ((0, 0), (0, COLS)),
    )
    low, high = np.full(LAYOUT.size, -1.0), np.full(LAYOUT.size, 1.0)
    low[LAYOUT.counts], high[LAYOUT.counts] = 0.0, 5.0 * per_cell
    low[INDEX["C1"]], high[INDEX["C1"]] = 0.0, 10.0
    low[INDEX["focus_spread"]], high[INDEX["focus_spread"]] = 2.0, 6.0
    std = np.full(LAYOUT.size, np.inf)
    std[INDEX["A1_x"]], std[INDEX["A0_x"]] = 0.02, 0.002
    mean = np.zeros(LAYOUT.size)
    mean[INDEX["A1_x"]] = 0.8
    coordinates = make_coordinates(OWN + SHARED, low, high, mean, std, jnp.dtype("float64"))
    moved = points.copy()
    moved[:, LAYOUT.counts] += rng.uniform(-0.2, 0.2, size=(2, 8))
    moved[:, INDEX["A1_x"]] += 0.05
    return model, coordinates, moved


def test_residuals_are_those_of_the_noise(case):
    """Their squares add up to chi-square by the inverse of the noise's covariance."""
    model, _, points = case
    image = np.asarray(model.image(jnp.asarray(points)))
    found = np.asarray(model.residuals(jnp.asarray(points)))
    along_y, along_x = (np.linalg.inv(NOISE.correlation(count)) for count in (ROWS, COLS))
    for k, (row, col) in enumerate(model.corners):
        missed = image[row : row + ROWS, col : col + COLS] - np.asarray(model.targets[k])
        chi2 = np.sum(missed * (along_y @ missed @ along_x)) / NOISE.variance
        assert np.sum(found[k] ** 2) == pytest.approx(chi2, rel=1e-6)
    missed = model.cut(model.image(jnp.asarray(points))) - model.targets
    np.testing.assert_allclose(whitened(model.likelihood, missed), found, rtol=1e-9, atol=1e-9)


def steps(coordinates, own, shared):
    both = jnp.concatenate([own, jnp.tile(shared, (2, 1))], axis=1)
    return both * coordinates.width


def dense(model, coordinates, points, free):
    """(step, Jacobian blocks of the regions' own coordinates and of the shared ones)."""
    own, count = len(OWN), 2 * len(OWN) + len(SHARED)

    def residual(x):
        step = steps(coordinates, x[: 2 * own].reshape(2, own), x[2 * own :])
        return model.residuals(jnp.asarray(points).at[:, jnp.array(coordinates.free)].add(step))

    jacobian = np.asarray(jax.jacfwd(residual)(jnp.zeros(count))).reshape(-1, count)
    r = np.asarray(residual(jnp.zeros(count))).ravel()
    weight = 1.0 / np.square(np.asarray(coordinates.prior_std))
    pull = (np.asarray(coordinates.to_unit(points)) - np.asarray(coordinates.prior_mean)) * weight
    prior = np.concatenate([weight[:own], weight[:own], weight[own:]])
    slope = jacobian.T @ r + np.concatenate([pull[0, :own], pull[1, :own], pull[0, own:]])
    hessian = jacobian.T @ jacobian + np.diag(prior + DAMPING)
    at = np.flatnonzero(free)
    step = np.zeros(count)
    step[at] = -np.linalg.solve(hessian[np.ix_(at, at)], slope[at])
    return step, hessian


def objective(model, coordinates, points):
    unit, mean = np.asarray(coordinates.to_unit(points)), np.asarray(coordinates.prior_mean)
    pulls = np.square((unit - mean) / np.asarray(coordinates.prior_std))
    priors = np.sum(pulls[:, : len(OWN)]) + np.sum(pulls[0, len(OWN) :])
    return np.sum(np.square(model.residuals(jnp.asarray(points)))) + priors


def test_the_step_is_that_of_the_dense_normal_equations(case):
    model, coordinates, points = case
    own = len(OWN)
    free = np.ones(2 * own + len(SHARED), dtype=bool)
    free[own + 4] = False  # a number that is fixed
    expected, hessian = dense(model, coordinates, points, free)
    # a rough preconditioner: the regions' own blocks, the shared ones as if alone
    blocks = np.array([hessian[k * own : (k + 1) * own, k * own : (k + 1) * own] for k in (0, 1)])
    preconditioner = Eliminated(
        jnp.asarray(np.linalg.inv(blocks)),
        jnp.zeros((2, own, len(SHARED))),
        jnp.asarray(np.linalg.inv(hessian[2 * own :, 2 * own :])),
    )
    found, foretold = gauss_newton(
        model,
        coordinates,
        jnp.asarray(points),
        preconditioner,
        (jnp.full((2, own), DAMPING), jnp.full(len(SHARED), DAMPING)),
        (jnp.asarray(free[: 2 * own].reshape(2, own)), jnp.asarray(free[2 * own :])),
        jnp.int32(200),
    )
    together = np.concatenate([np.ravel(found[0]), found[1]])
    assert together[own + 4] == 0.0
    scale = np.sqrt(np.diagonal(np.linalg.inv(hessian)))
    np.testing.assert_allclose(together / scale, expected / scale, atol=0.15)
    step = steps(coordinates, *found)
    moved = jnp.asarray(points).at[:, jnp.array(coordinates.free)].add(step)
    gain = objective(model, coordinates, points) - objective(model, coordinates, moved)
    assert float(foretold) == pytest.approx(expected @ hessian @ expected, rel=0.05)
    assert gain == pytest.approx(float(foretold), rel=0.3)
    assert gain > 50.0


def test_what_a_region_does_to_its_neighbour_counts(case):
    model, _, points = case
    atoms = points.copy()
    atoms[1, LAYOUT.counts] += 0.5  # some of its columns lie on the edge between the two
    change = np.asarray(model.residuals(jnp.asarray(atoms)) - model.residuals(jnp.asarray(points)))
    across, inside = np.sum(change[0] ** 2), np.sum(change[1] ** 2)
    assert 0.01 < across / inside < 1.0


def test_offsets_follow_the_tilt_of_what_lies_above(case):
    model, _, points = case
    straight = np.asarray(model.placement.offsets(jnp.asarray(points)))
    np.testing.assert_allclose(straight, 0.0, atol=1e-9)
    aside = points.copy()
    aside[1, INDEX["A0_x"]] += 0.02
    offsets = np.asarray(model.placement.offsets(jnp.asarray(aside)))
    np.testing.assert_allclose(offsets[1] - offsets[0], [0.02, 0.0], atol=1e-9)


def test_unknown_cells_are_found_and_left_where_they_are_best(case):
    model, _, points = case
    placement, simulator = model.placement, model.simulator
    state = placement.state(jnp.asarray(points))
    image = simulator.image(state)  # as if the unknown cell were what it was first taken to be

    def fitted(start: float, steps: int) -> np.ndarray:
        found = fit_unknown(
            simulator,
            make_likelihood(NOISE, (ROWS, 2 * COLS), jnp.dtype("float64")),
            image,
            state,
            np.array([2]),
            placement.first,
            np.asarray(placement.most),
            COLUMNS.atoms_per_cell(),
            UnknownCells(jnp.full((1, 8), start), jnp.zeros((1, LAYOUT.columns, 2))),
            steps,
        )
        return np.asarray(found.numbers)

    np.testing.assert_array_equal(fitted(0.0, 4), 0.0)  # a step of Adam would leave the minimum
    assert np.sqrt(np.mean(fitted(-1.0, 15) ** 2)) < 0.6


@pytest.mark.parametrize("later", [0.0, 1.0])
def test_other_numbers_behind_the_slices_that_they_leave_alone(case, later):
    model, _, points = case
    here = jnp.asarray(points)
    present = points[:, LAYOUT.counts]
    counts = np.tile(present, (3, 1, 1))
    counts[1, 0, 2] -= 1.0
    counts[2, 1, [0, 5]] += [1.0, -2.0]
    counts[2, 0, 7] += 1.0
    starts = np.array(model.placement.state(here).starts)[[0, 1]] + np.zeros((3, 1, 1))
    starts[2, 1, 5] += later  # as where chains are filled from the exit
    beside = np.array(model.placement.first_starts) + np.zeros((3, 1, 1))
    beside[2, 0, 3] += later
    chains = np.array([[-1, -1, -1, -1], [2, -1, -1, -1], [8, 13, 7, 19]])
    changes = Changes(*(jnp.asarray(table) for table in (counts, starts, beside, chains)))
    found = with_changes(model, here, changes)
    for k in range(3):
        placed = eqx.tree_at(
            lambda m: (m.placement.counts, m.placement.starts, m.placement.first_starts),
            model,
            (jnp.asarray(counts[k]), jnp.asarray(starts[k]), jnp.asarray(beside[k])),
        )
        expected = eqx.filter_jit(placed.residuals)(here.at[:, LAYOUT.counts].set(counts[k]))
        np.testing.assert_allclose(found[k], expected, atol=1e-9)
    assert np.ptp(found, axis=0).max() > 0.1


@pytest.mark.parametrize(
    ("kind", "index", "chains"),
    [
        ("tilt", INDEX["tilt_y"], [-2, -1]),
        ("shift of a region", INDEX["A0_x"], [-2, -1]),
        ("absorption", INDEX["absorption"], [-2, -1]),
        ("aberration", INDEX["A1_x"], [-1, -1]),
        ("position", LAYOUT.shifts.start + 3, None),
        ("number", LAYOUT.counts.start + 2, [2, -1]),
        ("unknown", 2, [18, -1]),
    ],
)
def test_derivatives_behind_the_slices_that_do_not_matter(case, kind, index, chains):
    """Along a coordinate of the first region, of all, or of the unknown cell."""
    model, _, points = case
    here, numbers = jnp.asarray(points), model.placement.unknown.numbers
    known, unknown = np.zeros_like(points), np.zeros(numbers.shape)
    if kind == "unknown":
        unknown[0, index] = 0.7
    else:
        known[slice(None) if kind in ("tilt", "aberration") else 0, index] = 0.3
    if chains is None:
        column = [c for c, chain in enumerate(COLUMNS.chains) if chain.column == 1]
        chains = [*column, -1, -1][:2]

    def residuals(points, numbers):
        cells = UnknownCells(numbers, model.placement.unknown.shifts)
        moved = eqx.tree_at(lambda m: m.placement.unknown, model, cells)
        return moved.residuals(points)

    tangent = jnp.asarray(known), jnp.asarray(unknown)
    _, expected = jax.jvp(residuals, (here, numbers), tangent)
    whole = make_likelihood(NOISE, (ROWS, 2 * COLS), jnp.dtype("float64"))
    these = Tangents(tangent[0][None], tangent[1][None], jnp.asarray(chains)[None])
    found, outside = tangent_residuals(model, here, whole, these)
    np.testing.assert_allclose(found[0], expected, atol=1e-8 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-3
    assert not np.any(outside)  # the two regions fill the image
