"""Arrow-shaped normal equations against dense ones."""

import dataclasses

import numpy as np

from qhrtem_jax.refine.pooled import ArrowSystem

REGIONS, OWN, SHARED = 4, 3, 2


def system(active=None, shared_active=None, free=None):
    rng = np.random.default_rng(3)
    jacobians = rng.normal(size=(REGIONS, 30, OWN + SHARED))
    residuals = rng.normal(size=(REGIONS, 30))
    return ArrowSystem(
        np.einsum("rnp,rnq->rpq", jacobians, jacobians),
        np.einsum("rnp,rn->rp", jacobians, residuals),
        np.array([0.5, 0.0, 200.0]),
        rng.normal(size=(REGIONS, OWN)),
        np.array([0.3, 1.0]),
        rng.normal(size=SHARED),
        np.ones((REGIONS, OWN), bool) if active is None else active,
        np.ones(SHARED, bool) if shared_active is None else shared_active,
        np.ones((REGIONS, OWN), bool) if free is None else free,
    )


def dense(arrow):
    """(Hessian, half gradient) over all own coordinates, then the shared ones."""
    size = REGIONS * OWN + SHARED
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    for r in range(REGIONS):
        at = np.r_[r * OWN : (r + 1) * OWN, REGIONS * OWN : size]
        hessian[np.ix_(at, at)] += arrow.hessian[r]
        gradient[at] += arrow.gradient[r]
        own = at[:OWN]
        hessian[own, own] += arrow.local_precision
        gradient[own] += arrow.local_pull[r]
    shared = np.arange(REGIONS * OWN, size)
    hessian[shared, shared] += arrow.shared_precision
    gradient[shared] += arrow.shared_pull
    return hessian, gradient


def test_the_step_solves_the_dense_system():
    arrow = system()
    hessian, gradient = dense(arrow)
    own, shared = arrow.step(0.0)
    expected = -np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(np.r_[own.ravel(), shared], expected, rtol=1e-9)


def test_fixed_coordinates_do_not_move_and_the_others_know_it():
    active = np.ones((REGIONS, OWN), bool)
    active[1, 2] = False
    arrow = system(active, np.array([True, False]))
    own, shared = arrow.step(0.0)
    assert own[1, 2] == 0.0
    assert shared[1] == 0.0
    hessian, gradient = dense(arrow)
    keep = np.delete(np.arange(len(gradient)), [1 * OWN + 2, len(gradient) - 1])
    expected = -np.linalg.solve(hessian[np.ix_(keep, keep)], gradient[keep])
    np.testing.assert_allclose(np.r_[own.ravel(), shared][keep], expected, rtol=1e-9)


def test_covariances_marginalise_what_is_shared():
    arrow = system()
    hessian, _ = dense(arrow)
    inverse = np.linalg.inv(hessian)
    own, shared = arrow.covariances()
    np.testing.assert_allclose(shared, inverse[-SHARED:, -SHARED:], rtol=1e-9)
    for r in range(REGIONS):
        at = slice(r * OWN, (r + 1) * OWN)
        np.testing.assert_allclose(own[r], inverse[at, at], rtol=1e-8, atol=1e-12)


def test_what_is_at_a_bound_errs_within_its_bounds_and_what_is_fixed_does_not():
    free, moves = np.ones((REGIONS, OWN), bool), np.ones((REGIONS, OWN), bool)
    free[3, 1] = moves[3, 1] = False  # fixed
    moves[0, 2] = False  # at a bound, as the first that is shared
    arrow = system(moves, np.array([False, True]), free)
    every = system()
    hessian, _ = dense(every)
    for r in range(REGIONS):  # without a prior, or with a wider one: the bounds'
        at = range(r * OWN, r * OWN + 2)
        hessian[at, at] += 12.0 - every.local_precision[:2]
    hessian[-SHARED:, -SHARED:] += np.diag(12.0 - every.shared_precision)
    still = 3 * OWN + 1
    kept = np.delete(np.arange(len(hessian)), still)
    inverse = np.full_like(hessian, np.nan)
    inverse[np.ix_(kept, kept)] = np.linalg.inv(hessian[np.ix_(kept, kept)])
    own, shared = arrow.of_errors().covariances()
    np.testing.assert_allclose(shared, inverse[-SHARED:, -SHARED:], rtol=1e-9)
    for r in range(REGIONS):
        at = slice(r * OWN, (r + 1) * OWN)
        np.testing.assert_allclose(own[r], inverse[at, at], rtol=1e-8, atol=1e-12)
    held = dataclasses.replace(arrow.of_errors(), shared_active=arrow.shared_active)
    assert held.covariances()[1][1, 1] < shared[1, 1]


def test_what_is_shared_alone_leads_to_the_same_step():
    active = np.ones((REGIONS, OWN), bool)
    active[2, 0] = False
    arrow = system(active)
    hessian, slope = arrow.of_shared()
    whole = hessian + np.diag(arrow.shared_precision)
    step = -np.linalg.solve(whole, slope + arrow.shared_pull)
    np.testing.assert_allclose(step, arrow.step(0.0)[1], rtol=1e-9)
    held, _ = system(active, np.array([True, False])).of_shared()
    np.testing.assert_allclose(held, hessian * [[1, 0], [0, 0]], atol=1e-9)


def test_covariance_of_one_combination_between_regions_is_that_of_the_dense_inverse():
    active = np.ones((REGIONS, OWN), bool)
    active[1, 2] = False
    arrow, weights = system(active), np.array([0.3, -1.2, 0.8])
    hessian, _ = dense(arrow)
    still = 1 * OWN + 2
    keep = np.delete(np.arange(len(hessian)), still)
    inverse = np.zeros_like(hessian)
    inverse[np.ix_(keep, keep)] = np.linalg.inv(hessian[np.ix_(keep, keep)])
    combine = np.zeros((REGIONS, len(hessian)))
    for r in range(REGIONS):
        combine[r, r * OWN : (r + 1) * OWN] = weights
    np.testing.assert_allclose(
        arrow.covariance_between(weights), combine @ inverse @ combine.T, rtol=1e-9
    )
