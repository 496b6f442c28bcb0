"""The search for imaging parameters: Bayesian optimization, least squares, or both."""

import dataclasses
import logging
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.bayesopt.gp import Prior
from qhrtem_jax.bayesopt.trust_region import TrustRegionOptions
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions, TurboState
from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.settings import OptimizerSettings
from qhrtem_jax.io.journal import Progress, Row
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.objective import Objective
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.starts import distinct_starts

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 2.0
WALK = (-1, 1, -2, 2, -4, 4)
WALK_ROUNDS = 6


@dataclasses.dataclass(frozen=True)
class Found:
    """The best parameter vector, and what finding it cost."""

    vector: np.ndarray
    mse: float
    evaluations: int
    gradient_evaluations: int
    history: tuple[Row, ...]
    thickness_costs: dict[int, float]  # best objective that least squares found at each thickness


class Evaluator(eqx.Module):
    """Objective in the unit cube: mean square of residuals and scaled distances to the priors."""

    objective: Objective
    base: Float[Array, " parameters"]
    indices: Array
    low: Float[Array, " d"]
    width: Float[Array, " d"]
    prior_mean: Float[Array, " d"]
    prior_weight: Float[Array, " d"]  # sqrt(data variance / pixels) / prior std

    @eqx.filter_jit
    def __call__(self, unit: Float[Array, "n d"]) -> tuple[Array, Array, Array, Array]:
        """(objective (n,), residuals (n, data + d + 1), mse (n,), vectors (n, parameters))."""
        values = self.low + unit.astype(self.low.dtype) * self.width
        vectors = jnp.broadcast_to(self.base, (len(unit), self.base.size))
        vectors = vectors.at[:, self.indices].set(values)
        found = self.objective.evaluate(vectors)
        data = self.objective.likelihood.residual(found.image, self.objective.experiment)
        pulls = (unit.astype(self.low.dtype) - self.prior_mean) * self.prior_weight
        first = self.objective.thickness_range[0]
        thickness = found.vector[:, INDEX["thickness"]].astype(jnp.int32) - first
        known = jnp.sqrt(self.objective.thickness_penalty[thickness])[:, None]
        residuals = jnp.concatenate([data, pulls, known], axis=1)
        return jnp.sum(residuals**2, axis=1), residuals, found.mse, found.vector


def make_evaluator(objective: Objective, space: ParameterSpace, data_variance: float) -> Evaluator:
    """`data_variance`: variance of a pixel that the priors are weighed against."""
    dtype = objective.experiment.dtype
    searched = space.space
    return Evaluator(
        objective,
        jnp.asarray(space.base, dtype),
        jnp.asarray(space.indices),
        jnp.asarray(searched.low, dtype),
        jnp.asarray(searched.high - searched.low, dtype),
        jnp.asarray(searched.prior_mean, dtype),
        jnp.asarray(np.sqrt(data_variance / objective.pixels) / searched.prior_std, dtype),
    )


class Search:
    """Runs the search that the settings ask for, with progress and checkpoints."""

    def __init__(
        self,
        objective: Objective,
        space: ParameterSpace,
        settings: OptimizerSettings,
        *,
        data_variance: float,
        seed: int,
        folder: RunFolder,
        resume: bool,
        report: Callable[[Progress], None],
    ) -> None:
        self.objective, self.space, self.settings = objective, space, settings
        self.data_variance, self.seed = data_variance, seed
        self.folder, self.resume, self.report = folder, resume, report
        self.evaluator = make_evaluator(objective, space, data_variance)
        self.history: list[Row] = []
        self.evaluations = self.gradient_evaluations = 0
        self.spent = 0.0  # seconds of an earlier, interrupted run
        self.started = time.perf_counter()
        self.best = np.inf
        self.penalty_scale = 1.0
        self.thickness_costs: dict[int, float] = {}

    def run(self) -> Found:
        """Search, and return the best vector.

        **Raises:** `NonFiniteError` if no evaluation gave a finite image.
        """
        if self.settings.name == "lm":
            vectors, values = self._random_evaluations()
        else:
            vectors, values = self._bayesian()
        if not np.any(np.isfinite(values)):
            raise NonFiniteError("no parameter vector gave a finite image")
        best = int(np.nanargmin(values))
        vector, mse = vectors[best], self.best
        if self.settings.name != "turbo":
            vector, mse = self._least_squares(vectors, values)
        return self._found(vector, mse)

    def reweigh(self, vector: np.ndarray, data_variance: float) -> Found:
        """Least squares from `vector` with another weight of the data against the priors."""
        self.penalty_scale = data_variance / self.data_variance
        self.data_variance = data_variance
        self.thickness_costs = {}
        return self._found(*self._least_squares(vector[None], np.zeros(1)))

    def _found(self, vector: np.ndarray, mse: float) -> Found:
        return Found(
            vector,
            mse,
            self.evaluations,
            self.gradient_evaluations,
            tuple(self.history),
            self.thickness_costs,
        )

    @property
    def batch(self) -> int:
        return min(self.settings.batch, self.settings.max_evaluations)

    @property
    def seconds(self) -> float:
        return self.spent + time.perf_counter() - self.started

    def _out_of_time(self) -> bool:
        limit = self.settings.max_seconds
        return limit is not None and self.seconds >= limit

    def _note(self, phase: str, length: float | None = None) -> None:
        row = Row(len(self.history), self.evaluations, round(self.seconds, 3), self.best)
        self.history.append(row)
        self.folder.write_history(
            ["iteration", "evaluations", "seconds", "best_mse"],
            [list(dataclasses.astuple(r)) for r in self.history],
        )
        budget = self.settings.max_evaluations
        self.report(Progress(phase, self.evaluations, budget, self.seconds, self.best, length))

    # Bayesian optimization

    def _turbo(self) -> Turbo:
        chosen = self.settings
        composite = chosen.surrogate == "composite"
        experiment = self.objective.experiment
        data = jax.eval_shape(self.objective.likelihood.residual, experiment, experiment).size
        outputs = data + len(self.space.space) + 1 if composite else 0
        return Turbo(
            dimensions=len(self.space.space),
            batch=self.batch,
            max_evaluations=chosen.max_evaluations,
            outputs=outputs,
            options=TurboOptions(
                acquisition=chosen.acquisition,
                surrogate=chosen.surrogate,
                output="log",
                beta=chosen.beta,
                initial_points=chosen.initial_points,
                training_points=chosen.training_points,
                prior=Prior(fixed_noise=chosen.fixed_noise),
                region=TrustRegionOptions(
                    minimum_length=chosen.minimum_length, improvement=chosen.improvement
                ),
            ),
        )

    def _bayesian(self) -> tuple[np.ndarray, np.ndarray]:
        """Full vectors and objective values of all evaluations."""
        turbo = self._turbo()
        key = jax.random.key(self.seed)
        state = self._with_given_values(turbo.init(jax.random.fold_in(key, 2**20)))
        vectors = np.full((turbo.capacity, self.space.base.size), np.nan)
        errors = np.full(turbo.capacity, np.nan)
        state, first = self._restore(state, vectors, errors)
        saved = time.perf_counter()
        batch = turbo.batch
        for k in range(first, turbo.capacity // batch):
            if k > 0 and self._out_of_time():
                break
            points, state = turbo.ask(state, jax.random.fold_in(key, k))
            points = self._with_drawn_integers(points, jax.random.fold_in(key, 2**21 + k))
            values, residuals, mse, filled = self.evaluator(points)
            state, info = turbo.tell(state, points, values, residuals if turbo.outputs else None)
            rows = slice(k * batch, (k + 1) * batch)
            vectors[rows], errors[rows] = np.asarray(filled), np.asarray(mse)
            self.evaluations = (k + 1) * batch
            finite = np.isfinite(errors)
            known = np.where(finite, np.asarray(state.y), np.inf)
            self.best = float(errors[int(np.argmin(known))]) if finite.any() else np.inf
            self._note("search", float(info.length))
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                self._save(state, vectors, errors)
                saved = time.perf_counter()
        self._save(state, vectors, errors)
        count = self.evaluations
        return vectors[:count], np.asarray(state.y)[:count]

    def _with_given_values(self, state: TurboState) -> TurboState:
        """The first point of the initial design carries the values that the user gave."""
        names = self.space.space.names
        given = [k for k, name in enumerate(names) if name in self.space.given]
        if not given:
            return state
        unit = self.space.space.to_unit(self.space.base[self.space.indices])
        design = state.design.at[0, np.array(given)].set(unit[given])
        return eqx.tree_at(lambda s: s.design, state, design)

    def _with_drawn_integers(self, points: Array, key: jax.Array) -> Array:
        """Integer variables are drawn as in the paper's Eq. 3; the model keeps what was drawn."""
        space = self.space.space
        if not np.any(space.integer):
            return points
        low, width = jnp.asarray(space.low), jnp.asarray(space.high - space.low)
        values = space.realise(key, points)
        inside = jnp.clip(values, jnp.ceil(low), jnp.floor(low + width))
        return jnp.where(jnp.asarray(space.integer), (inside - low) / width, points)

    def _save(self, state: TurboState, vectors: np.ndarray, errors: np.ndarray) -> None:
        leaves = {f"leaf{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
        extra = {
            "vectors": vectors,
            "errors": errors,
            "history": np.array([dataclasses.astuple(r) for r in self.history]),
        }
        self.folder.write_checkpoint(leaves | extra)

    def _restore(
        self, state: TurboState, vectors: np.ndarray, errors: np.ndarray
    ) -> tuple[TurboState, int]:
        """State of an interrupted run (vectors and errors are filled in), and its next batch."""
        saved = self.folder.read_checkpoint() if self.resume else None
        if saved is None:
            return state, 0
        old, structure = jax.tree.flatten(state)
        new = [saved.get(f"leaf{k}", np.zeros((0, 0, 0))) for k in range(len(old))]
        if any(a.shape != b.shape for a, b in zip(old, new, strict=True)):
            log.warning("the checkpoint belongs to other settings: starting afresh")
            return state, 0
        vectors[:], errors[:] = saved["vectors"], saved["errors"]
        for iteration, evaluations, seconds, mse in saved["history"]:
            self.history.append(Row(int(iteration), int(evaluations), float(seconds), float(mse)))
        self.spent = self.history[-1].seconds if self.history else 0.0
        self.evaluations = self.history[-1].evaluations if self.history else 0
        self.best = self.history[-1].best_mse if self.history else np.inf
        state = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in new])
        return state, int(state.count) // self.batch

    # Least squares

    def _random_evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts for least squares alone: a random sample, evaluated once each."""
        rng = np.random.default_rng(self.seed)
        batch = self.batch
        vectors, values = [], []
        wanted = min(self.settings.max_evaluations, 4 * self.settings.starts)
        for k in range(max(wanted // batch, 1)):
            unit = rng.uniform(size=(batch, len(self.space.space)))
            if k == 0:
                known = self.space.space.to_unit(self.space.base[self.space.indices])
                for column, name in enumerate(self.space.space.names):
                    if name in self.space.given:
                        unit[0, column] = known[column]
            objective, _, mse, filled = self.evaluator(jnp.asarray(unit))
            vectors.append(np.asarray(filled))
            values.append(np.asarray(objective))
            self.evaluations += batch
            self.best = float(np.nanmin([self.best, np.nanmin(np.asarray(mse))]))
            self._note("starts")
            if self._out_of_time():
                break
        return np.concatenate(vectors), np.concatenate(values)

    def _least_squares(self, vectors: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
        """Least squares from the best distinct points, then a walk over neighbouring
        thicknesses."""
        fitted = self.space.fitted
        columns = np.array(
            [k for k, name in enumerate(fitted.space.names) if name != "thickness"], dtype=int
        )
        if not columns.size:
            return vectors[int(np.nanargmin(values))], self.best
        names = tuple(fitted.space.names[k] for k in columns)
        low, width = fitted.space.low[columns], (fitted.space.high - fitted.space.low)[columns]
        indices = np.array([INDEX[name] for name in names])
        solve = self._solver(names, low, width, columns)
        starts = distinct_starts(vectors, values, indices, low, width, self.settings.starts)
        best_cost, best_vector, tried = np.inf, vectors[starts[0]], set()
        candidates = [vectors[k] for k in starts]
        for round_number in range(1 + WALK_ROUNDS):
            improved = False
            for vector in candidates:
                unit = (vector[indices] - low) / width
                thickness = round(float(vector[INDEX["thickness"]]))
                tried.add(thickness)
                u, cost, calls = solve(unit, thickness)
                self.gradient_evaluations += calls
                pulls = (u - fitted.space.prior_mean[columns]) / fitted.space.prior_std[columns]
                mse = cost - np.sum(pulls**2) * self.data_variance / self.objective.pixels
                cost += self._thickness_penalty(thickness)
                known = self.thickness_costs.get(thickness, np.inf)
                self.thickness_costs[thickness] = float(np.fmin(known, cost))
                if np.isfinite(cost) and cost < best_cost * (1.0 - 1e-4):
                    best_cost, improved = cost, True
                    best_vector = vector.copy()
                    best_vector[indices] = low + u * width
                    best_vector[INDEX["thickness"]] = thickness
                    self.best = float(mse)
                self._note("least squares")
                if self._out_of_time():
                    return best_vector, self.best
            if not improved or not self.space.thickness_free:
                break
            centre = round(float(best_vector[INDEX["thickness"]]))
            if round_number == 0:
                tried = {centre}
            first, last = self.space.thickness_range
            steps = [centre + s for s in WALK if first <= centre + s <= last]
            candidates = []
            for thickness in steps:
                if thickness not in tried:
                    moved = best_vector.copy()
                    moved[INDEX["thickness"]] = thickness
                    candidates.append(moved)
            if not candidates:
                break
        return best_vector, self.best

    def _thickness_penalty(self, thickness: int) -> float:
        index = thickness - self.space.thickness_range[0]
        return self.penalty_scale * float(self.objective.thickness_penalty[index])

    def _solver(
        self, names: tuple[str, ...], low: np.ndarray, width: np.ndarray, columns: np.ndarray
    ) -> Callable[[np.ndarray, int], tuple[np.ndarray, float, int]]:
        """Least squares for one start at a fixed thickness: (unit point, cost, Jacobians)."""
        objective, pixels = self.objective, self.objective.pixels
        simulator, dtype = objective.simulator, objective.experiment.dtype
        space = self.space.fitted.space
        # residuals are scaled by 1/sqrt(pixels), so that the cost is the MSE
        scale = np.sqrt(pixels / self.data_variance)
        method = LevenbergMarquardt(
            jnp.asarray(space.prior_mean[columns], dtype),
            jnp.asarray(space.prior_std[columns] * scale, dtype),
            self.settings.max_iterations,
        )
        indices = np.array([INDEX[name] for name in names])
        lower, widths = jnp.asarray(low, dtype), jnp.asarray(width, dtype)
        base = jnp.asarray(self.space.base, dtype)

        @jax.jit
        def run(start: Array, thickness: Array) -> tuple[Array, Array, Array]:
            def residuals(u: Array) -> tuple[Array, Array]:
                vector = base.at[indices].set(lower + u * widths)
                vector = vector.at[INDEX["thickness"]].set(thickness)
                image, jacobian = image_and_jacobian(simulator, vector, names)
                slopes = objective.likelihood.slopes(jacobian * widths[:, None, None])
                return objective.likelihood.residual(image, objective.experiment), slopes

            state = method.run(residuals, start)
            return state.u, state.cost, state.iterations

        def solve(unit: np.ndarray, thickness: int) -> tuple[np.ndarray, float, int]:
            u, cost, calls = run(jnp.asarray(unit, dtype), jnp.asarray(thickness, dtype))
            return np.asarray(u, dtype=float), float(cost), int(calls)

        return solve
