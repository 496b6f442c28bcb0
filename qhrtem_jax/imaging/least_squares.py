"""From the points of a search to the best minimum: gradients from many of them, over thicknesses.

A minimum may be that of a wrong basin. Where the noise is known, an image that is not explained
says so; where it is not, or where a model misses some of every image, a minimum that hardly a start
has led to may not be the best. The search then goes on: more starts each time, random ones among
them, and a wider walk over the thickness.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.imaging.model import FAR, Found, SearchModel
from qhrtem_jax.imaging.solver import THICKNESS, Solver, fitted_coordinates, make_solver
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.starts import SAME_THICKNESS, distinct_starts

WALK, WIDE_WALK = (-1, 1, -2, 2, -4, 4), (-1, 1, -2, 2, -3, 3, -4, 4, -6, 6, -8, 8)
WALK_ROUNDS = 6
"""Thicknesses that are tried around the best one, at first and in further rounds, and how often."""

LEAST_GAIN = 1e-4
"""Share of the objective that a better one must be lower by."""

DECISIVE = 0.1
"""A fall of -2 log likelihood that is a gain, however small its share."""

EXPLAINED = 1.15
"""An objective of so many times that of a perfect model is explained by the noise."""

NEAR, NEAR_SLICES = 0.1, 2
"""Two minima are of the same basin where half of the parameters are within this share of their
bounds, and the thicknesses within so many slices."""

AGAIN, AGAIN_MISFIT, AGAIN_FAR = 2, 3, 8
"""So many starts that lead to the same minimum make it the best one: where no noise is known, where
the misfit is above the noise, and where it is `FAR` above, as for the mean of regions that differ.
"""

ROUNDS = 4
"""Rounds of further starts, at most, each of twice as many as the last."""

SAMPLED = 4
"""So many random points are evaluated for each start that is taken from them."""


def random_starts(
    model: SearchModel, journal: Journal
) -> tuple[Float[np.ndarray, "n parameters"], Float[np.ndarray, " n"]]:
    """Starts for least squares alone: parameter vectors and objectives of a random sample; the
    first carries the values that the user gave."""
    wanted = min(model.settings.max_evaluations, SAMPLED * model.settings.starts)
    return _sample(model, wanted, 0, journal)


def _sample(
    model: SearchModel, count: int, number: int, journal: Journal
) -> tuple[Float[np.ndarray, "n parameters"], Float[np.ndarray, " n"]]:
    """Random points: (vectors, objectives); another sample for each `number`, of which the first
    begins with the values that the user gave."""
    rng = np.random.default_rng((model.seed, number) if number else model.seed)
    vectors, values = [], []
    for k in range(max(count // model.batch, 1)):
        unit = rng.uniform(size=(model.batch, len(model.space.space)))
        if number == 0 and k == 0:
            unit[0] = model.with_given_values(unit[0])
        objective, _, mse, filled = model.evaluator(jnp.asarray(unit))
        vectors.append(np.asarray(filled))
        values.append(np.asarray(objective))
        journal.count(model.batch)
        best = float(np.nanmin([journal.best, np.nanmin(np.asarray(mse))]))
        journal.note("starts", best, budget=model.settings.max_evaluations)
        if model.out_of_time(journal):
            break
    return np.concatenate(vectors), np.concatenate(values)


def least_squares(
    model: SearchModel,
    vectors: Float[np.ndarray, "n parameters"],
    values: Float[np.ndarray, " n"],
    journal: Journal,
    *,
    go_on: bool = True,
) -> Found:
    """The best minimum from the best distinct `vectors`, whose objectives are `values`, and over
    neighbouring thicknesses; `go_on`: with further starts while it may be that of a wrong basin."""
    solver = make_solver(model)
    if not solver.names:
        best = int(np.nanargmin(values))
        return Found(vectors[best], float(values[best]))
    found, taken = Found(vectors[int(np.nanargmin(values))], np.inf), []
    for number in range(1 + ROUNDS if go_on else 1):
        count = model.settings.starts * 2**number
        if number > 0:
            if _settled(model, found) or model.out_of_time(journal):
                break
            more = _sample(model, SAMPLED * count, number, journal)
            vectors, values = np.concatenate([vectors, more[0]]), np.concatenate([values, more[1]])
        unit = fitted_coordinates(model).to_unit(vectors)
        most = SAME_THICKNESS * (1 + number) if model.space.thickness_free else None
        starts = distinct_starts(unit, vectors[:, THICKNESS], values, count, taken, most)
        taken = [*taken, *starts]
        before = found
        for k in starts:
            found = _solved(model, solver, vectors[k], found, journal, start=True)
            if model.out_of_time(journal):
                return _assessed(model, found)
            if number > 0 and _explained(model, found):
                break
        if found.cost < before.cost and model.space.thickness_free:
            found = _walked(model, solver, found, WIDE_WALK if number else WALK, journal)
    return _assessed(model, found)


def _settled(model: SearchModel, found: Found) -> bool:
    """Whether there is no reason to look for another basin."""
    again = _led_to(model, found)
    if model.expected is None:
        return again >= AGAIN
    enough = AGAIN_MISFIT if found.cost < FAR * model.expected else AGAIN_FAR
    return again >= enough or _explained(model, found)


def _explained(model: SearchModel, found: Found) -> bool:
    return model.expected is not None and found.cost < EXPLAINED * model.expected


def _assessed(model: SearchModel, found: Found) -> Found:
    """With what is to be said of its basin."""
    misfit = None if model.expected is None else found.cost / model.expected
    return dataclasses.replace(found, starts=_led_to(model, found), misfit=misfit)


def _led_to(model: SearchModel, found: Found) -> int:
    """How many starts ended in the basin of the best minimum."""
    to_unit = fitted_coordinates(model).to_unit
    best = to_unit(found.vector)
    return sum(
        bool(np.median(np.abs(to_unit(end) - best)) < NEAR)
        and abs(_thickness(end) - _thickness(found.vector)) <= NEAR_SLICES
        for end in found.ends
    )


def _walked(
    model: SearchModel, solver: Solver, found: Found, steps: tuple[int, ...], journal: Journal
) -> Found:
    """The best over thicknesses around that of `found`, and around each better one."""
    tried = {_thickness(found.vector)}  # other starts need not have been the best of theirs
    for _ in range(WALK_ROUNDS):
        before = found
        for vector in _neighbours(model, found.vector, tried, steps):
            tried.add(_thickness(vector))
            found = _solved(model, solver, vector, found, journal)
            if model.out_of_time(journal):
                return found
        if not found.cost < before.cost:
            break
    return found


def _thickness(vector: np.ndarray) -> int:
    return round(float(vector[THICKNESS]))


def _neighbours(
    model: SearchModel, vector: np.ndarray, tried: set[int], steps: tuple[int, ...]
) -> list[np.ndarray]:
    """`vector` at the thicknesses around its own that were not tried."""
    first, last = model.space.thickness_range
    centre, moved = _thickness(vector), []
    for thickness in (centre + step for step in steps):
        if first <= thickness <= last and thickness not in tried:
            moved.append(vector.copy())
            moved[-1][THICKNESS] = thickness
    return moved


def _solved(
    model: SearchModel,
    solver: Solver,
    vector: np.ndarray,
    found: Found,
    journal: Journal,
    *,
    start: bool = False,
) -> Found:
    """The better of `found` and what gradients make of `vector`; `start`: a start of its own."""
    coordinates, dtype = fitted_coordinates(model), model.objective.experiment.dtype
    thickness = _thickness(vector)
    point = jnp.asarray(coordinates.to_unit(vector), dtype), jnp.asarray(thickness, dtype)
    solution, data_cost, error, calls = solver(*point)
    journal.count(gradients=int(calls))
    cost = float(data_cost) + model.thickness_penalty(thickness)
    known = found.thickness_costs.get(thickness, np.inf)
    costs = found.thickness_costs | {thickness: float(np.fmin(known, cost))}
    end = coordinates.place(vector, np.asarray(solution, float))
    end[THICKNESS] = thickness
    ends = (*found.ends, end) if start and np.isfinite(cost) else found.ends
    least_gain = LEAST_GAIN * found.cost if np.isfinite(found.cost) else 0.0
    if model.information is not None:
        least_gain = min(least_gain, DECISIVE / model.information)
    better = bool(np.isfinite(cost) and cost < found.cost - least_gain)
    if better:
        found = Found(end, cost, costs, ends)
    else:
        found = dataclasses.replace(found, thickness_costs=costs, ends=ends)
    mse = float(error) if better else None
    journal.note(
        "least squares",
        mse,
        budget=model.settings.max_evaluations,
        picture=lambda: model.picture(found.vector),
    )
    return found
