"""Other ways to minimise over the unit cube.

CMA-ES is pycma's (Hansen, Akimoto, Baudis, doi:10.5281/zenodo.2559634) with its defaults; descents
from many random starts are SciPy's.
"""

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import scipy.optimize


class _Spent(Exception):
    """The budget is."""


@dataclasses.dataclass
class _Counted:
    """An objective that remembers the best value after each evaluation, up to `budget`."""

    budget: int
    best: list[float] = dataclasses.field(default_factory=list)

    def add(self, value: float) -> None:
        if len(self.best) >= self.budget:
            raise _Spent
        self.best.append(min(value, self.best[-1]) if self.best else value)


def evolution(
    objective: Callable[[np.ndarray], np.ndarray], d: int, budget: int, seed: int
) -> np.ndarray:
    """Best values of CMA-ES after each evaluation, restarted where it ends (twice the population,
    as its authors advise)."""
    import cma

    counted = _Counted(budget)
    generator = np.random.default_rng(seed)
    options: dict = {"bounds": [0.0, 1.0], "verbose": -9, "seed": seed + 1}
    size = 4 + int(3.0 * np.log(d))
    try:
        while True:
            options["popsize"] = size
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                search = cma.CMAEvolutionStrategy(generator.uniform(size=d), 0.3, options)
                while not search.stop():
                    points = search.ask()
                    values = objective(np.asarray(points))
                    for value in values:
                        counted.add(float(value))
                    search.tell(points, list(values))
            size *= 2
    except _Spent:
        return np.asarray(counted.best)


def descents(
    objective: Callable[[np.ndarray], np.ndarray], d: int, budget: int, seed: int
) -> np.ndarray:
    """Best values of L-BFGS-B from random starts; its differences count as evaluations."""
    counted = _Counted(budget)
    generator = np.random.default_rng(seed)

    def value(u: np.ndarray) -> float:
        found = float(objective(np.clip(u, 0.0, 1.0)[None])[0])
        counted.add(found)
        return found

    try:
        while True:
            scipy.optimize.minimize(
                value, generator.uniform(size=d), method="L-BFGS-B", bounds=[(0.0, 1.0)] * d
            )
    except _Spent:
        return np.asarray(counted.best)


def least_squares(
    residuals: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], np.ndarray],
    d: int,
    budget: int,
    seed: int,
) -> np.ndarray:
    """Best sums of squares of least squares from random starts; a residual counts as one
    evaluation, its exact Jacobian as another, whatever that costs."""
    counted = _Counted(budget)
    generator = np.random.default_rng(seed)

    def missed(u: np.ndarray) -> np.ndarray:
        found = residuals(u)
        counted.add(float(np.sum(found**2)))
        return found

    def slopes(u: np.ndarray) -> np.ndarray:
        counted.add(np.inf)
        return jacobian(u)

    try:
        while True:
            scipy.optimize.least_squares(
                missed, generator.uniform(size=d), slopes, bounds=(0.0, 1.0)
            )
    except _Spent:
        return np.asarray(counted.best)
