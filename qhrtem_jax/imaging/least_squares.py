"""Gradients finish what a search has found: from several starts, then over the thickness.

Least squares where the objective is a sum of squares, else a bounded quasi-Newton method.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qhrtem_jax.bayesopt import lbfgs
from qhrtem_jax.imaging.model import Found, SearchModel
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.objective import Objective
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.starts import distinct_starts

WALK = (-1, 1, -2, 2, -4, 4)
WALK_ROUNDS = 6
"""Thicknesses that are tried around the best one, and how often."""

LEAST_GAIN = 1e-4
"""Share of the objective that a better one must be lower by."""

THICKNESS = INDEX["thickness"]


QUASI_NEWTON_CALLS = 3
"""Gradients of the quasi-Newton method for each Jacobian that least squares may take."""


class Solver(eqx.Module):
    """Minimises the objective by the continuous parameters `names`, from one start at a fixed
    thickness."""

    objective: Objective
    base: Float[Array, " parameters"]
    coordinates: Coordinates
    method: LevenbergMarquardt
    names: tuple[str, ...] = eqx.field(static=True)

    @eqx.filter_jit
    def __call__(
        self, start: Float[Array, " d"], thickness: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
        """(point of the unit cube, objective with its priors, mean squared error, Jacobians or
        gradients that it took)."""
        solve = self._least_squares if self.objective.squares else self._quasi_newton
        u, cost, calls = solve(start, thickness)
        if self.objective.criterion is None:
            return u, cost, cost - jnp.sum(self.coordinates.pull(u) ** 2), calls
        image = self.objective.simulator.image(self._vector(u, thickness))
        return u, cost, self.objective.errors(image[None])[0], calls

    def _vector(self, u: Array, thickness: Array) -> Array:
        return self.coordinates.place(self.base, u).at[THICKNESS].set(thickness)

    def _least_squares(self, start: Array, thickness: Array) -> tuple[Array, Array, Array]:
        objective = self.objective

        def residuals(u: Array) -> tuple[Array, Array]:
            vector = self._vector(u, thickness)
            image, jacobian = image_and_jacobian(objective.simulator, vector, self.names)
            jacobian = jacobian * self.coordinates.width[:, None, None]
            return objective.residual(image), objective.slopes(image, jacobian)

        state = self.method.run(residuals, start)
        return state.u, state.cost, state.iterations

    def _quasi_newton(self, start: Array, thickness: Array) -> tuple[Array, Array, Array]:
        def cost(u: Array) -> Array:
            image = self.objective.simulator.image(self._vector(u, thickness))
            return self.objective.costs(image[None])[0]

        calls = QUASI_NEWTON_CALLS * self.method.max_iterations
        box = jnp.zeros_like(start), jnp.ones_like(start)
        u, value = lbfgs.minimise(jax.value_and_grad(cost), start, *box, calls, first_step=0.02)
        return u, value, jnp.int32(calls)


def make_solver(model: SearchModel) -> Solver:
    """The solver of a search; `names` is empty where no parameter but the thickness is free."""
    dtype = model.objective.experiment.dtype
    coordinates = _coordinates(model).on_device(dtype)
    return Solver(
        model.objective,
        jnp.asarray(model.space.base, dtype),
        coordinates,
        LevenbergMarquardt(
            coordinates.prior_mean, coordinates.prior_std, model.settings.max_iterations
        ),
        _continuous(model),
    )


def _continuous(model: SearchModel) -> tuple[str, ...]:
    """The fitted parameters that least squares can change."""
    return tuple(name for name in model.space.fitted.space.names if name != "thickness")


def _coordinates(model: SearchModel) -> Coordinates[np.ndarray]:
    scale = float(np.sqrt(model.objective.information(model.data_variance)))
    return model.space.fitted.coordinates(_continuous(model), scale)


def random_starts(
    model: SearchModel, journal: Journal
) -> tuple[Float[np.ndarray, "n parameters"], Float[np.ndarray, " n"]]:
    """Starts for least squares alone: parameter vectors and objectives of a random sample; the
    first carries the values that the user gave."""
    rng, batch, chosen = np.random.default_rng(model.seed), model.batch, model.settings
    vectors, values = [], []
    wanted = min(chosen.max_evaluations, 4 * chosen.starts)
    for k in range(max(wanted // batch, 1)):
        unit = rng.uniform(size=(batch, len(model.space.space)))
        if k == 0:
            unit[0] = model.with_given_values(unit[0])
        objective, _, mse, filled = model.evaluator(jnp.asarray(unit))
        vectors.append(np.asarray(filled))
        values.append(np.asarray(objective))
        journal.count(batch)
        best = float(np.nanmin([journal.best, np.nanmin(np.asarray(mse))]))
        journal.note("starts", best, budget=chosen.max_evaluations)
        if model.out_of_time(journal):
            break
    return np.concatenate(vectors), np.concatenate(values)


def least_squares(
    model: SearchModel,
    vectors: Float[np.ndarray, "n parameters"],
    values: Float[np.ndarray, " n"],
    journal: Journal,
) -> Found:
    """Least squares from the best distinct `vectors`, then a walk over neighbouring thicknesses.
    `values`: objectives of the vectors."""
    solver = make_solver(model)
    if not solver.names:
        best = int(np.nanargmin(values))
        return Found(vectors[best], float(values[best]))
    unit = _coordinates(model).to_unit(vectors)
    starts = distinct_starts(unit, vectors[:, THICKNESS], values, model.settings.starts)
    candidates = [vectors[k] for k in starts]
    found, tried = Found(candidates[0], np.inf), set()
    for number in range(1 + WALK_ROUNDS):
        before = found
        for vector in candidates:
            tried.add(_thickness(vector))
            found = _solved(model, solver, vector, found, journal)
            if model.out_of_time(journal):
                return found
        if not found.cost < before.cost or not model.space.thickness_free:
            break
        if number == 0:  # other starts need not have been the best of their thickness
            tried = {_thickness(found.vector)}
        candidates = _neighbours(model, found.vector, tried)
        if not candidates:
            break
    return found


def _thickness(vector: np.ndarray) -> int:
    return round(float(vector[THICKNESS]))


def _neighbours(model: SearchModel, vector: np.ndarray, tried: set[int]) -> list[np.ndarray]:
    """`vector` at the thicknesses around its own that were not tried."""
    first, last = model.space.thickness_range
    centre, moved = _thickness(vector), []
    for thickness in (centre + step for step in WALK):
        if first <= thickness <= last and thickness not in tried:
            moved.append(vector.copy())
            moved[-1][THICKNESS] = thickness
    return moved


def _solved(
    model: SearchModel, solver: Solver, vector: np.ndarray, found: Found, journal: Journal
) -> Found:
    """The better of `found` and what least squares makes of `vector`."""
    coordinates, dtype = _coordinates(model), model.objective.experiment.dtype
    thickness, start = _thickness(vector), coordinates.to_unit(vector)
    point = jnp.asarray(start, dtype), jnp.asarray(thickness, dtype)
    solution, data_cost, error, calls = solver(*point)
    journal.count(gradients=int(calls))
    u = np.asarray(solution, float)
    cost = float(data_cost) + model.thickness_penalty(thickness)
    known = found.thickness_costs.get(thickness, np.inf)
    costs = found.thickness_costs | {thickness: float(np.fmin(known, cost))}
    mse, best, least = None, found.vector, found.cost
    if np.isfinite(cost) and cost < found.cost * (1.0 - LEAST_GAIN):
        mse = float(error)
        best, least = coordinates.place(vector, u), cost
        best[THICKNESS] = thickness
    journal.note("least squares", mse, budget=model.settings.max_evaluations)
    return Found(best, least, costs)
