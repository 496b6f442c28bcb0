"""Whole numbers of atoms found all together: integer least squares.

Where numbers trade against each other (light atoms in neighbouring columns, through the imaging
parameters that they share), no change of one or two of them leads to the best ones. The objective
is nearly quadratic in all of them, with everything else at its best; whole numbers near the minimum
of a quadratic are a closest-vector problem, as for the ambiguities of satellite ranging (Teunissen,
J. Geodesy 70, 65, 1995). It is solved by a breadth-first search of bounded width (the M-algorithm:
Anderson and Mohan, IEEE Trans. Commun. 32, 169, 1984).
"""

import dataclasses

import numpy as np

CHOICES = 5
"""Values of a number that are tried in each branch of the search."""


@dataclasses.dataclass(frozen=True)
class IntegerModel:
    """Objective of whole numbers (n,), all other parameters at their best for each.

    Changes of different numbers add up: the objective is constant + 2 linear x + x quadratic x,
    where `x` (m,) holds how often each change is made: `times[k, v]` times change `which[k, v]`
    where number k is v, and none where `which` is -1 (at `base`). The last changes are what two
    numbers do beyond that together: `joint` (t, 4) holds number, value, other number, its value.
    `low` and `high` (n,) bound what may be looked at.
    """

    base: np.ndarray
    which: np.ndarray  # (n, values)
    times: np.ndarray
    joint: np.ndarray
    constant: float
    linear: np.ndarray
    quadratic: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def amounts(self, states: np.ndarray) -> np.ndarray:
        """How often each change is made, (k, m), in states (k, n)."""
        at = np.arange(len(self.base)), states.astype(int)
        first = len(self.linear) - len(self.joint)
        found = np.zeros((len(states), first + 1))  # the last one takes what is -1
        np.put_along_axis(found, self.which[at], self.times[at], axis=1)
        one, value, other, with_it = self.joint.T
        both = (states[:, one] == value) & (states[:, other] == with_it)
        return np.concatenate([found[:, :-1], both], axis=1)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Objectives of states (k, n)."""
        x = self.amounts(states)
        return self.constant + 2.0 * x @ self.linear + np.sum((x @ self.quadratic) * x, axis=1)

    def relaxed(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(best relaxed numbers (n,), their precision (n, n)), from the mean effect of one atom
        more and less around `state` (n,)."""
        more, less = np.minimum(state + 1.0, self.high), np.maximum(state - 1.0, self.low)
        there = [np.where(np.eye(len(state), dtype=bool), end, state) for end in (more, less)]
        steps = np.maximum(more - less, 1.0)
        directions = ((self.amounts(there[0]) - self.amounts(there[1])) / steps[:, None]).T
        gradient = directions.T @ (self.linear + self.quadratic @ self.amounts(state[None])[0])
        most = float(np.max(self.high - self.low, initial=1.0))
        precision = at_least(directions.T @ self.quadratic @ directions, 1.0 / most**2)
        return state - np.linalg.solve(precision, gradient), precision

    def conditional(self, state: np.ndarray, chosen: np.ndarray) -> "IntegerModel":
        """The model of the numbers `chosen` (indices, ascending), the others as in `state` (n,).
        Numbers that do something together are both chosen, or neither."""
        rest = state.copy()
        rest[chosen] = self.base[chosen]
        fixed = self.amounts(rest[None])[0]
        mine = self.which[chosen]
        together = np.isin(self.joint[:, 0], chosen)
        joint = self.joint[together].copy()
        joint[:, [0, 2]] = np.searchsorted(chosen, joint[:, [0, 2]])
        last = len(self.linear) - len(self.joint) + np.flatnonzero(together)
        kept = np.concatenate([np.unique(mine[mine >= 0]), last])
        where = np.full(len(self.linear) + 1, -1)  # the last entry answers for -1
        where[kept] = np.arange(len(kept))
        slope = self.linear + self.quadratic @ fixed
        return IntegerModel(
            self.base[chosen],
            where[mine],
            self.times[chosen],
            joint,
            self.constant + float(fixed @ (self.linear + slope)),
            slope[kept],
            self.quadratic[np.ix_(kept, kept)],
            self.low[chosen],
            self.high[chosen],
        )


def at_least(precision: np.ndarray, least: float) -> np.ndarray:
    """`precision` with no eigenvalue below `least`: rounding may leave slightly negative ones where
    the image says nothing."""
    curvature, axes = np.linalg.eigh(precision)
    return (axes * np.maximum(curvature, least)) @ axes.T


def nearest_integers(
    mean: np.ndarray, precision: np.ndarray, low: np.ndarray, high: np.ndarray, number: int
) -> np.ndarray:
    """Vectors of whole numbers within `low`..`high` near to `mean` in the metric of `precision`,
    (<= number, n), nearest first; none where `mean` or `precision` is not finite.

    `number` is also the width of the search: what falls out of the best so many on the way is lost,
    so ask for several times of what is needed.
    """
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(precision))):
        return np.zeros((0, len(mean)))
    order = _surest_first(precision)[::-1]  # decided from the last to the first
    factor = np.linalg.cholesky(precision[np.ix_(order, order)]).T
    centre, below, above = mean[order], low[order], high[order]
    offsets, cost = np.zeros((1, len(mean))), np.zeros(1)
    steps = np.arange(CHOICES) - CHOICES // 2
    for level in range(len(mean) - 1, -1, -1):
        scale = factor[level, level]
        aim = centre[level] - offsets[:, level + 1 :] @ factor[level, level + 1 :] / scale
        middle = np.clip(np.rint(aim), below[level] + CHOICES // 2, above[level] - CHOICES // 2)
        if above[level] - below[level] < CHOICES:
            middle = np.full_like(aim, below[level] + CHOICES // 2)
        values = middle[:, None] + steps
        added = np.where(
            (values >= below[level]) & (values <= above[level]),
            (scale * (values - aim[:, None])) ** 2,
            np.inf,
        )
        total = (cost[:, None] + added).ravel()
        kept = np.argsort(total, kind="stable")[:number]
        kept = kept[np.isfinite(total[kept])]
        offsets, cost = offsets[kept // CHOICES], total[kept]
        offsets[:, level] = values.ravel()[kept] - centre[level]
    found = np.empty_like(offsets)
    found[:, order] = np.rint(offsets + centre)
    return found


def _surest_first(precision: np.ndarray) -> np.ndarray:
    """Order in which each number is the surest of those left, given the ones before."""
    covariance = np.linalg.inv(precision)
    left, order = list(range(len(precision))), []
    while left:
        k = left.pop(int(np.argmin(np.diagonal(covariance)[left])))
        order.append(k)
        spread = covariance[:, k].copy()
        covariance -= np.outer(spread, spread) / max(spread[k], 1e-300)
    return np.array(order)
