"""Bayesian optimization of the numbers of atoms of all regions at once."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.bayesopt.space import Space, Variable
from qhrtem_jax.bayesopt.turbo import Turbo
from qhrtem_jax.inputs.search import turbo_options
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.likelihood import mean_square
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.model import RegionsModel, fitter

BATCH = 8
C1_HALF_WIDTH_NM = 0.6

SEARCHED = ("C1", "absorption")
"""Besides numbers, where they are free: C1 against its start, absorption."""


def bayesian_starts(
    model: RegionsModel, points: Float[np.ndarray, "regions point"], journal: Journal
) -> Float[np.ndarray, "regions point"]:
    """Better starts of all regions by trust-region Bayesian optimization around `points`, one
    optimizer each in one vmapped program.

    Searched: the numbers of atoms, C1 and absorption. Numbers are relaxed in the model and drawn as
    in the paper's Eq. 3 before an evaluation; what the constraints forbid is repaired before it,
    and the model learns what was evaluated.
    """
    settings, layout = model.problem.settings, model.layout
    regions, space, turbo = len(points), _space(model), _turbo(model)
    images_of = fitter(model, model.first_weights).images
    key = jax.random.key(settings.seed)
    states = jax.vmap(turbo.init)(jax.random.split(jax.random.fold_in(key, 2**20), regions))
    start = _placed(model, points)
    design = _designs(model, start, np.asarray(states.design), space)
    states = eqx.tree_at(lambda s: s.design, states, jnp.asarray(design))
    ask, tell = jax.jit(jax.vmap(turbo.ask)), jax.jit(jax.vmap(turbo.tell))
    error = mean_square(model.targets[0].size, model.simulator.dtype)
    least, best = np.full(regions, np.inf), points.copy()
    for k in range(turbo.max_evaluations // BATCH):
        keys = jax.random.split(jax.random.fold_in(key, k), regions)
        asked, states = ask(states, keys)
        drawn = np.array(jax.vmap(space.realise)(keys, asked))
        for row in drawn.reshape(-1, len(space)):
            row[: layout.chains] = model.constraints.repair(row[: layout.chains])
        candidates = _candidates(model, points, drawn)
        images = images_of(candidates.reshape(regions * BATCH, -1))
        images = images.reshape(regions, BATCH, *images.shape[1:])
        mse = np.asarray(error.objective(images, model.targets[:, None]), float)
        states, _ = tell(states, jnp.asarray(space.to_unit(drawn)), jnp.asarray(mse))
        ranked = np.where(np.isfinite(mse), mse, np.inf)
        first = np.argmin(ranked, axis=1)
        value = ranked[np.arange(regions), first]
        better = value < least
        least = np.where(better, value, least)
        best[better] = candidates[np.arange(regions), first][better]
        journal.count(regions * BATCH)
        journal.note("search", float(np.mean(least)))
    return best


def _space(model: RegionsModel) -> Space:
    """Numbers of atoms, and those of `SEARCHED` that are free."""
    numbers = (
        Variable(f"n{k}", 0.0, float(most), "atoms", integer=True)
        for k, most in enumerate(model.most)
    )
    low, high = model.bounds.low, model.bounds.high
    within = {
        "C1": (-C1_HALF_WIDTH_NM, C1_HALF_WIDTH_NM),
        "absorption": (float(low[INDEX["absorption"]]), float(high[INDEX["absorption"]])),
    }
    others = (Variable(name, *within[name]) for name in model.bounds.free_names(SEARCHED))
    return Space((*numbers, *others))


def _turbo(model: RegionsModel) -> Turbo:
    settings = model.problem.settings
    chosen, dimensions = settings.optimizer, len(_space(model).variables)
    budget = max(BATCH, BATCH * (settings.reconstruct.max_evaluations // BATCH))
    options = turbo_options(chosen, "gpjax" if chosen.surrogate == "gpjax" else "scalar")
    wanted = chosen.initial_points or chosen.initial_per_parameter * dimensions
    # the budget of a region is small: at least half of it is for the model
    options = dataclasses.replace(options, initial_points=min(wanted, max(BATCH, budget // 2)))
    return Turbo(dimensions, BATCH, budget, options=options)


def _candidates(model: RegionsModel, points: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Points (regions, batch, point) with what was drawn (regions, batch, variables) in them."""
    chains = model.layout.chains
    candidates = np.repeat(points[:, None], drawn.shape[1], axis=1)
    candidates[:, :, model.layout.counts] = drawn[:, :, :chains]
    for k, name in enumerate(model.bounds.free_names(SEARCHED)):
        before = candidates[:, :, INDEX[name]] if name == "C1" else 0.0
        candidates[:, :, INDEX[name]] = before + drawn[:, :, chains + k]
    return candidates


def _placed(model: RegionsModel, points: np.ndarray) -> np.ndarray:
    """Where points (regions, point) lie in the space."""
    known = [
        np.zeros(len(points)) if name == "C1" else points[:, INDEX[name]]
        for name in model.bounds.free_names(SEARCHED)
    ]
    return np.column_stack([points[:, model.layout.counts], *known])


def _designs(
    model: RegionsModel, start: np.ndarray, designs: np.ndarray, space: Space
) -> np.ndarray:
    """Initial designs: the start itself, and slabs with rough surfaces around it.

    Most of the numbers' cube is far from any specimen, since columns side by side are about as
    long; a Latin hypercube over all of it would be spent in vain.
    """
    chains = model.layout.chains
    per_cell = model.columns.atoms_per_cell()
    around = 2.0 * (designs - 0.5)
    values = np.repeat(start[:, None], designs.shape[1], axis=1)
    values[:, 1:, :chains] += 1.5 * per_cell * around[:, 1:, :chains]
    # C1 about its start, which is 0, and absorption: anywhere within their bounds
    values[:, 1:, chains:] = np.asarray(space.from_unit(jnp.asarray(designs)))[:, 1:, chains:]
    return np.clip(space.to_unit(values), 0.0, 1.0)
