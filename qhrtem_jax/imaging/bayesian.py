"""Trust-region Bayesian optimization of the imaging parameters, with checkpoints."""

import dataclasses
import logging
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.bayesopt.turbo import Turbo, TurboState
from qhrtem_jax.imaging.model import SearchModel
from qhrtem_jax.inputs.search import turbo_options
from qhrtem_jax.io.journal import Journal

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class BayesianState:
    """The optimizer, and of every evaluation the whole parameter vector and its mean squared
    error (NaN where it is still to come)."""

    optimizer: TurboState
    vectors: Float[np.ndarray, "capacity parameters"]
    errors: Float[np.ndarray, " capacity"]

    @property
    def evaluations(self) -> int:
        """Evaluations so far."""
        return int(self.optimizer.count)

    @property
    def best(self) -> int:
        """Which evaluation has the best objective."""
        known = np.where(np.isfinite(self.errors), np.asarray(self.optimizer.y), np.inf)
        return int(np.argmin(known))

    @property
    def best_mse(self) -> float:
        """Mean squared error where the objective is best."""
        return float(self.errors[self.best]) if np.isfinite(self.errors).any() else np.inf


def bayesian_search(
    model: SearchModel, journal: Journal
) -> tuple[Float[np.ndarray, "n parameters"], Float[np.ndarray, " n"]]:
    """Parameter vectors and objectives of all evaluations; goes on where an interrupted run has
    stopped."""
    turbo = _turbo(model)
    state = _restored(model, _begin(model, turbo), journal)
    saved = time.perf_counter()
    for k in range(state.evaluations // turbo.batch, turbo.capacity // turbo.batch):
        if k > 0 and model.out_of_time(journal):
            break
        state, length = _step(model, turbo, state, k)
        journal.count(turbo.batch)
        journal.note(
            "search",
            state.best_mse,
            budget=model.settings.max_evaluations,
            length=length,
            picture=lambda s=state: model.picture(s.vectors[s.best]),
        )
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            _save(model, state, journal)
            saved = time.perf_counter()
    _save(model, state, journal)
    count = state.evaluations
    return state.vectors[:count], np.asarray(state.optimizer.y)[:count]


def _turbo(model: SearchModel) -> Turbo:
    chosen, dimensions = model.settings, len(model.space.space)
    outputs = 0
    surrogate = model.surrogate
    if surrogate == "composite":
        experiment = model.objective.experiment
        outputs = jax.eval_shape(model.objective.residual, experiment).size + dimensions + 1
    return Turbo(
        dimensions=dimensions,
        batch=model.batch,
        max_evaluations=chosen.max_evaluations,
        outputs=outputs,
        options=turbo_options(chosen, surrogate),
    )


def _begin(model: SearchModel, turbo: Turbo) -> BayesianState:
    """Nothing evaluated; the first point of the design carries the values that the user gave."""
    optimizer = turbo.init(jax.random.fold_in(jax.random.key(model.seed), 2**20))
    first = model.with_given_values(np.asarray(optimizer.design[0]))
    design = optimizer.design.at[0].set(first)
    optimizer = eqx.tree_at(lambda s: s.design, optimizer, design)
    vectors = np.full((turbo.capacity, model.space.base.size), np.nan)
    return BayesianState(optimizer, vectors, np.full(turbo.capacity, np.nan))


def _step(
    model: SearchModel, turbo: Turbo, state: BayesianState, k: int
) -> tuple[BayesianState, float]:
    """(state after the `k`-th batch, length of the trust region)."""
    key = jax.random.key(model.seed)
    points, optimizer = turbo.ask(state.optimizer, jax.random.fold_in(key, k))
    points = _with_drawn_integers(model, points, jax.random.fold_in(key, 2**21 + k))
    values, residuals, mse, filled = model.evaluator(points)
    optimizer, info = turbo.tell(optimizer, points, values, residuals if turbo.outputs else None)
    vectors, errors = state.vectors.copy(), state.errors.copy()
    rows = slice(k * turbo.batch, (k + 1) * turbo.batch)
    vectors[rows], errors[rows] = np.asarray(filled), np.asarray(mse)
    return BayesianState(optimizer, vectors, errors), float(info.length)


def _with_drawn_integers(
    model: SearchModel, points: Float[Array, "n d"], key: jax.Array
) -> Float[Array, "n d"]:
    """Integer variables are drawn as in the paper's Eq. 3; the model keeps what was drawn."""
    space = model.space.space
    if not np.any(space.integer):
        return points
    values = np.asarray(space.realise(key, points))
    inside = np.clip(values, np.ceil(space.low), np.floor(space.high))
    return jnp.where(jnp.asarray(space.integer), jnp.asarray(space.to_unit(inside)), points)


def _shift_bounds(model: SearchModel) -> Float[np.ndarray, "2 2"]:
    return np.array([(variable.low, variable.high) for variable in model.space.shift])


def _save(model: SearchModel, state: BayesianState, journal: Journal) -> None:
    leaves = jax.tree.leaves(state.optimizer)
    content = {f"leaf{k}": np.asarray(leaf) for k, leaf in enumerate(leaves)}
    more = {
        "vectors": state.vectors,
        "errors": state.errors,
        "history": journal.history(),
        "shift": _shift_bounds(model),
    }
    journal.folder.write_checkpoint(content | more)


def _restored(model: SearchModel, state: BayesianState, journal: Journal) -> BayesianState:
    """State of an interrupted run, whose history the journal takes over; `state`, a fresh one,
    where there is none."""
    saved = journal.folder.read_checkpoint() if model.resume else None
    if saved is None or not np.array_equal(saved.get("shift", np.zeros(0)), _shift_bounds(model)):
        return state  # that of another search of this run is begun again
    old, structure = jax.tree.flatten(state.optimizer)
    new = [saved.get(f"leaf{k}", np.zeros((0, 0, 0))) for k in range(len(old))]
    if any(a.shape != b.shape for a, b in zip(old, new, strict=True)):
        log.warning("the checkpoint belongs to other settings: starting afresh")
        return state
    journal.resume(saved["history"])
    optimizer = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in new])
    return BayesianState(optimizer, saved["vectors"], saved["errors"])
