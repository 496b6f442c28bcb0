"""Whole numbers of atoms found all together: integer least squares.

Where numbers trade against each other (light atoms in neighbouring columns, through the imaging
parameters that they share), no change of one or two of them leads to the best ones. The objective
is nearly quadratic in all of them, with everything else at its best; whole numbers near the minimum
of a quadratic are a closest-vector problem, as for the ambiguities of satellite ranging (Teunissen,
J. Geodesy 70, 65, 1995). It is solved by a breadth-first search of bounded width (the M-algorithm:
Anderson and Mohan, IEEE Trans. Commun. 32, 169, 1984).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Num

CHOICES = 5
"""Values of a number that are tried in each branch of the search."""


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Which changes make whole numbers.

    Number k is v once change `which[k, v]` is made `times[k, v]` times, and no change is made where
    `which` is -1 (at `base`). What two numbers do together beyond that is a change, too: `joint`
    holds number, value, other number, its value, which change, how often. `low` and `high` bound
    what may be looked at; `changes`: how many there are.
    """

    base: Num[np.ndarray, " n"]
    which: Int[np.ndarray, "n values"]
    times: Num[np.ndarray, "n values"]
    joint: Int[np.ndarray, "t 6"]
    low: Num[np.ndarray, " n"]
    high: Num[np.ndarray, " n"]
    changes: int

    def amounts(self, states: Num[np.ndarray, "k n"]) -> Float[np.ndarray, "k m"]:
        """How often each change is made in states."""
        at = np.arange(len(self.base)), states.astype(int)
        found = np.zeros((len(states), self.changes + 1))  # the last one takes what is -1
        np.put_along_axis(found, self.which[at], self.times[at], axis=1)
        one, value, other, with_it, change, often = self.joint.T
        both = (states[:, one] == value) & (states[:, other] == with_it)
        row, pair = np.nonzero(both)
        found[row, change[pair]] = often[pair]
        return found[:, :-1]

    def part(
        self, chosen: Int[np.ndarray, " chosen"]
    ) -> tuple["Numbering", Int[np.ndarray, " kept"]]:
        """(that of the numbers `chosen` (indices, ascending) alone, which changes make these,
        ascending). Numbers that do something together are both chosen, or neither."""
        mine = self.which[chosen]
        joint = self.joint[np.isin(self.joint[:, 0], chosen)].copy()
        joint[:, [0, 2]] = np.searchsorted(chosen, joint[:, [0, 2]])
        kept = np.unique(np.concatenate([mine[mine >= 0], joint[:, 4]]))
        where = np.full(self.changes + 1, -1)  # the last entry answers for -1
        where[kept] = np.arange(len(kept))
        joint[:, 4] = where[joint[:, 4]]
        part = Numbering(
            self.base[chosen],
            where[mine],
            self.times[chosen],
            joint,
            self.low[chosen],
            self.high[chosen],
            len(kept),
        )
        return part, kept


@dataclasses.dataclass(frozen=True)
class IntegerModel:
    """Objective of whole numbers, all other parameters at their best for each.

    Changes of different numbers add up: the objective is constant + 2 linear x + x quadratic x,
    where `x` (m,) holds how often each change of the `numbering` is made.
    """

    numbering: Numbering
    constant: float
    linear: Float[np.ndarray, " m"]
    quadratic: Float[np.ndarray, "m m"]

    def __call__(self, states: Num[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
        """Objectives of states."""
        x = self.numbering.amounts(states)
        return self.constant + 2.0 * x @ self.linear + np.sum((x @ self.quadratic) * x, axis=1)

    def slope(self, state: Num[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
        """Half the gradient of the objective by the changes, at `state`."""
        return self.linear + self.quadratic @ self.numbering.amounts(state[None])[0]

    def relaxed(
        self,
        state: Float[np.ndarray, " n"],
        prior: Float[np.ndarray, "n n"],
        around: Num[np.ndarray, " n"],
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
        """(best relaxed numbers, their precision), from the mean effect of one atom more and less
        around `state`; `prior` is the precision that numbers have `around` some without the
        image."""
        numbering = self.numbering
        more = np.minimum(state + 1.0, numbering.high)
        less = np.maximum(state - 1.0, numbering.low)
        there = [np.where(np.eye(len(state), dtype=bool), end, state) for end in (more, less)]
        steps = np.maximum(more - less, 1.0)
        amounts = [numbering.amounts(states) for states in there]
        directions = ((amounts[0] - amounts[1]) / steps[:, None]).T
        gradient = directions.T @ self.slope(state) + prior @ (state - around)
        precision = directions.T @ self.quadratic @ directions + prior
        if not np.all(np.isfinite(precision)):
            return state, precision
        most = float(np.max(numbering.high - numbering.low, initial=1.0))
        precision = at_least(precision, 1.0 / most**2)
        return state - np.linalg.solve(precision, gradient), precision

    def conditional(
        self,
        state: Num[np.ndarray, " n"],
        chosen: Int[np.ndarray, " chosen"],
        slope: Float[np.ndarray, " m"],
    ) -> "IntegerModel":
        """The model of the numbers `chosen` (as `Numbering.part`), the others as in `state`;
        its objective is that above the one with the chosen numbers at `base`. `slope`: that at
        `state`."""
        numbering, kept = self.numbering.part(chosen)
        quadratic = self.quadratic[np.ix_(kept, kept)]
        here = numbering.amounts(state[chosen][None])[0]
        return IntegerModel(numbering, 0.0, slope[kept] - quadratic @ here, quadratic)


def at_least(precision: Float[np.ndarray, "n n"], least: float) -> Float[np.ndarray, "n n"]:
    """`precision` with no eigenvalue below `least`: rounding may leave slightly negative ones where
    the image says nothing."""
    curvature, axes = np.linalg.eigh(precision)
    return (axes * np.maximum(curvature, least)) @ axes.T


def nearest_integers(
    mean: Float[np.ndarray, " n"],
    precision: Float[np.ndarray, "n n"],
    low: Num[np.ndarray, " n"],
    high: Num[np.ndarray, " n"],
    number: int,
) -> Float[np.ndarray, "found n"]:
    """Vectors of whole numbers within `low`..`high` near to `mean` in the metric of `precision`,
    at most `number`, nearest first; none where `mean` or `precision` is not finite.

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


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What a Markov chain says: the probability of each value of each number, and the states that
    it went through, one after each sweep."""

    probability: Float[np.ndarray, "n values"]
    states: Float[np.ndarray, "k n"]


def probabilities(
    model: IntegerModel,
    penalty: Callable[[Float[np.ndarray, "k n"]], Float[np.ndarray, " k"]],
    start: Num[np.ndarray, " n"],
    steps: Num[np.ndarray, "k n"],
    sweeps: int,
    rng: np.random.Generator,
) -> Sampled:
    """Probability of each value of each number, all others open: exp(-objective / 2).

    A Markov chain from `start`. A sweep draws every number from its distribution given the
    others (heat bath), whose mean over the chain is its probability, and proposes as many of
    `steps`, differences of good states, added or taken away (Metropolis): numbers that trade
    against each other only change together. `penalty` maps states to what is added to the
    objective, infinite for what is not allowed.
    """
    state = start.astype(float).copy()
    numbering = model.numbering
    x, values = numbering.amounts(state[None])[0], numbering.which.shape[1]
    slope, extra = model.slope(state), float(penalty(state[None])[0])
    found, visited = np.zeros((len(state), values)), []
    quiet = sweeps // 5  # not counted: the chain forgets where it began

    def costs(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(what the objective changes by, changes x, penalties) of other states."""
        moved = numbering.amounts(states) - x
        at = np.flatnonzero(np.any(moved != 0.0, axis=0))
        part = moved[:, at]
        change = 2.0 * part @ slope[at]
        change += np.sum((part @ model.quadratic[np.ix_(at, at)]) * part, axis=1)
        added = penalty(states)
        return change + added - extra, moved, added

    def go(to: np.ndarray, moved: np.ndarray, added: float) -> None:
        nonlocal state, x, slope, extra
        at = np.flatnonzero(moved)
        state, x, extra = to, x + moved, added
        slope = slope + model.quadratic[:, at] @ moved[at]

    for sweep in range(sweeps):
        for k in range(len(state)):
            options = np.arange(numbering.low[k], numbering.high[k] + 1.0)
            states = np.tile(state, (len(options), 1))
            states[:, k] = options
            change, moved, added = costs(states)
            weight = np.exp(-0.5 * (change - np.min(change)))
            weight /= weight.sum()
            if sweep >= quiet:
                found[k, options.astype(int)] += weight
            chosen = int(rng.choice(len(options), p=weight))
            if options[chosen] != state[k]:
                go(states[chosen], moved[chosen], float(added[chosen]))
        for k in rng.integers(len(steps), size=len(state) if len(steps) else 0):
            to = state + steps[k] * rng.choice((-1.0, 1.0))
            if np.any(to < numbering.low) or np.any(to > numbering.high):
                continue
            change, moved, added = costs(to[None])
            if np.log(rng.random()) < -0.5 * change[0]:
                go(to, moved[0], float(added[0]))
        if sweep >= quiet:
            visited.append(state)
    return Sampled(found / (sweeps - quiet), np.array(visited))
