"""What stays the same in all frames, from their normal equations."""

import numpy as np
import pytest

from qhrtem_jax.matching.weights import ErrorScale
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.pooled import ArrowSystem
from qhrtem_jax.series import microscope

REGIONS, OWN, FRAMES = 3, 2, 4
SHARED = (*microscope.MOVING, 40, 41, 42)
PRECISION = np.array([0.0, 0.1, 0.2, 0.3, 0.0, 1.0])


def frame(rng, blocked=()):
    """Normal equations of a frame, of own coordinates that are not the other frames'."""
    slopes = rng.normal(size=(REGIONS, 25, OWN + len(SHARED)))
    missed = rng.normal(size=(REGIONS, 25))
    free = np.ones(len(SHARED), dtype=bool)
    free[list(blocked)] = False
    return ArrowSystem(
        np.einsum("rnp,rnq->rpq", slopes, slopes),
        np.einsum("rnp,rn->rp", slopes, missed),
        np.full(OWN, 0.5),
        rng.normal(size=(REGIONS, OWN)),
        PRECISION,
        PRECISION * 0.7,
        np.ones((REGIONS, OWN), dtype=bool),
        free,
        np.ones((REGIONS, OWN), dtype=bool),
    )


def dense(systems):
    """(Hessian, gradient) of what is common to all frames first, then of what each has for itself;
    priors of what is common once."""
    moving, common = len(microscope.MOVING), len(SHARED) - len(microscope.MOVING)
    own = REGIONS * OWN + moving
    size = common + len(systems) * own
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    for f, system in enumerate(systems):
        first = common + f * own
        for r in range(REGIONS):
            mine = first + moving + r * OWN + np.arange(OWN)
            at = np.r_[mine, first + np.arange(moving), np.arange(common)]
            hessian[np.ix_(at, at)] += system.hessian[r]
            gradient[at] += system.gradient[r]
            hessian[mine, mine] += system.local_precision
            gradient[mine] += system.local_pull[r]
        at = first + np.arange(moving)
        hessian[at, at] += system.shared_precision[:moving]
        gradient[at] += system.shared_pull[:moving]
    hessian[range(common), range(common)] += systems[0].shared_precision[moving:]
    gradient[:common] += systems[0].shared_pull[moving:]
    return hessian, gradient, common


def test_the_step_is_that_of_all_frames_at_once():
    rng = np.random.default_rng(5)
    systems = [frame(rng) for _ in range(FRAMES)]
    found = microscope.from_frames(SHARED, systems)
    hessian, gradient, common = dense(systems)
    assert found.index == SHARED[-common:]
    np.testing.assert_allclose(found.step, -np.linalg.solve(hessian, gradient)[:common], rtol=1e-8)
    hessian, _, _ = dense([system.of_errors() for system in systems])
    expected = np.linalg.inv(hessian)[:common, :common]
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-8)


def test_what_one_frame_holds_at_a_bound_stays():
    rng = np.random.default_rng(5)
    systems = [frame(rng, blocked=[4] if k == 2 else []) for k in range(FRAMES)]
    found = microscope.from_frames(SHARED, systems)
    assert found.index == (40, 42)
    # but it errs as if it had not been there, and the others with it
    rng = np.random.default_rng(5)
    free = microscope.from_frames(SHARED, [frame(rng) for _ in range(FRAMES)])
    assert found.every == (40, 41, 42)
    np.testing.assert_allclose(found.covariance, free.covariance)


def test_the_step_is_taken_in_every_region():
    coordinates = Coordinates(
        (0, 2, 3), np.array([0.0, 0.0, -1.0]), np.array([1.0, 10.0, 2.0]), np.zeros(3), np.ones(3)
    )
    hessian = np.array([[2.0, 0.5], [0.5, 1.0]])
    step = microscope.Microscope((2, 3), np.array([0.1, 0.9]), hessian, (2, 3), hessian)
    points = np.array([[0.5, 7.0, 4.0, 0.0], [0.6, 8.0, 4.0, 0.0]])
    moved = microscope.taken(coordinates, points, step)
    # the last ends at its bound, 0.4 short of its step, and the other one follows
    there = 4.0 + 10.0 * (0.1 + 0.5 / 2.0 * 0.4)
    np.testing.assert_allclose(moved, [[0.5, 7.0, there, 1.0], [0.6, 8.0, there, 1.0]])


def test_errors_are_in_the_parameters_units():
    coordinates = Coordinates(
        (0, microscope.INDEX["C1"], 2, 3, 4),
        np.zeros(5),
        np.array([1.0, 1.0, 10.0, 2.0, 5.0]),
        np.zeros(5),
        np.full(5, np.inf),
    )
    names = [f"p{n}" for n in range(60)]
    known = np.diag([1 / 400.0, 1 / 2500.0, 0.08])
    found = microscope.Microscope((2, 3), np.zeros(2), np.eye(2), (2, 3, 4), known)
    scale = ErrorScale(1.5, 2.0, 4.0)
    noise, std = microscope.microscope_errors(coordinates, names, found, scale)
    assert noise == {"p2": pytest.approx(0.75), "p3": pytest.approx(0.06), "p4": None}
    assert std == {"p2": pytest.approx(1.5), "p3": pytest.approx(0.12), "p4": None}


@pytest.mark.parametrize("name", ["C1", "tilt_x", "tilt_y"])
def test_focus_and_tilt_are_each_frame_s(name):
    assert microscope.INDEX[name] in microscope.MOVING
