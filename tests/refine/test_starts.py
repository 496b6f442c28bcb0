"""Where gradients start: distinct points, at several thicknesses, not those that were taken."""

import numpy as np

from qhrtem_jax.refine.starts import distinct_starts

RNG = np.random.default_rng(0)
UNIT = RNG.uniform(size=(40, 5))
VALUES = np.arange(40.0)


def test_few_share_a_thickness_unless_they_may():
    thickness = np.repeat([10.0, 11.0], 20)
    assert distinct_starts(UNIT, thickness, VALUES, 6) == [0, 1, 20, 21]
    assert distinct_starts(UNIT, thickness, VALUES, 6, most=None) == [0, 1, 2, 3, 4, 5]


def test_further_starts_are_others():
    thickness = np.repeat([10.0, 11.0], 20)
    taken = distinct_starts(UNIT, thickness, VALUES, 4)
    more = distinct_starts(UNIT, thickness, VALUES, 8, taken, most=4)
    assert more == [2, 3, 22, 23]
    again = np.concatenate([UNIT, UNIT[:2] + 0.01])  # near one that was taken
    place = np.append(thickness, [10.0, 10.0])
    found = distinct_starts(again, place, np.append(VALUES, [-2.0, -1.0]), 2, taken, most=4)
    assert found == [2, 3]
    failed = np.where(VALUES == 2.0, np.nan, VALUES)
    assert distinct_starts(UNIT, thickness, failed, 2, taken, most=3) == [3, 22]
