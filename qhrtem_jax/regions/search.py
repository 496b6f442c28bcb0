"""Bayesian optimization of the numbers of atoms of all regions at once."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qhrtem_jax.bayesopt.space import Space, Variable
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions
from qhrtem_jax.physics.parameters import INDEX

if TYPE_CHECKING:
    from qhrtem_jax.regions.fit import RegionFit

BATCH = 8
C1_HALF_WIDTH_NM = 0.6


def bayesian_starts(fit: "RegionFit") -> None:
    """Improve the starts of all regions by trust-region Bayesian optimization, one optimizer each
    in one vmapped program.

    Searched: the numbers of atoms, C1 and absorption. Numbers are relaxed in the model and drawn as
    in the paper's Eq. 3 before an evaluation; what the constraints forbid is repaired before it,
    and the model learns what was evaluated.
    """
    settings, layout = fit.task.settings, fit.layout
    regions = len(fit.points)
    columns = fit.columns
    base = fit.points.copy()
    variables = [
        Variable(f"n{k}", 0.0, float(most), "atoms", integer=True)
        for k, most in enumerate(fit.most)
    ]
    c1, absorption = INDEX["C1"], INDEX["absorption"]
    low, high = fit.bounds.low[absorption], fit.bounds.high[absorption]
    variables += [
        Variable("C1", -C1_HALF_WIDTH_NM, C1_HALF_WIDTH_NM, "nm"),
        Variable("absorption", float(low), float(high), ""),
    ]
    space = Space(tuple(variables))
    budget = max(BATCH, BATCH * (settings.reconstruct.max_evaluations // BATCH))
    chosen = settings.optimizer
    turbo = Turbo(
        dimensions=len(space),
        batch=BATCH,
        max_evaluations=budget,
        options=TurboOptions(
            acquisition=chosen.acquisition,
            output="log",
            beta=chosen.beta,
            initial_points=2 * BATCH,
        ),
    )
    key = jax.random.key(settings.seed)
    states = jax.vmap(turbo.init)(jax.random.split(jax.random.fold_in(key, 2**20), regions))
    start = np.column_stack([base[:, layout.counts], np.zeros(regions), base[:, absorption]])
    design = _designs(fit, start, np.asarray(states.design), space)
    states = eqx.tree_at(lambda s: s.design, states, jnp.asarray(design))
    ask, tell = jax.jit(jax.vmap(turbo.ask)), jax.jit(jax.vmap(turbo.tell))
    best = np.full(regions, np.inf)
    chains = len(columns.chains)
    for k in range(budget // BATCH):
        keys = jax.random.split(jax.random.fold_in(key, k), regions)
        points, states = ask(states, keys)
        drawn = np.array(jax.vmap(space.realise)(keys, points))
        for region in range(regions):
            for row in range(BATCH):
                drawn[region, row, :chains] = fit.constraints.repair(drawn[region, row, :chains])
        candidates = np.repeat(base[:, None], BATCH, axis=1)
        candidates[:, :, layout.counts] = drawn[:, :, :chains]
        candidates[:, :, c1] += drawn[:, :, chains]
        candidates[:, :, absorption] = drawn[:, :, chains + 1]
        images = fit.model.images(candidates.reshape(regions * BATCH, -1))
        images = images.reshape(regions, BATCH, *images.shape[1:])
        mse = np.mean((images - fit.targets[:, None]) ** 2, axis=(2, 3))
        unit = (drawn - space.low) / (space.high - space.low)
        states, _ = tell(states, jnp.asarray(unit), jnp.asarray(mse))
        ranked = np.where(np.isfinite(mse), mse, np.inf)
        row = np.argmin(ranked, axis=1)
        value = ranked[np.arange(regions), row]
        better = value < best
        best = np.where(better, value, best)
        fit.points[better] = candidates[np.arange(regions), row][better]
        fit.journal.evaluations += regions * BATCH
        fit.journal.note("search", float(np.mean(best)))


def _designs(fit: "RegionFit", start: np.ndarray, designs: np.ndarray, space: Space) -> np.ndarray:
    """Initial designs: the start itself, and slabs with rough surfaces around it.

    Most of the numbers' cube is far from any specimen, since columns side by side are about as
    long; a Latin hypercube over all of it would be spent in vain.
    """
    width = space.high - space.low
    chains = len(fit.columns.chains)
    per_cell = fit.columns.atoms_per_cell()
    around = 2.0 * (designs - 0.5)
    values = np.repeat(start[:, None], designs.shape[1], axis=1)
    values[:, 1:, :chains] += 1.5 * per_cell * around[:, 1:, :chains]
    values[:, 1:, chains] += C1_HALF_WIDTH_NM * around[:, 1:, chains]
    values[:, 1:, chains + 1] = (space.low + designs * width)[:, 1:, chains + 1]
    return np.clip((values - space.low) / width, 0.0, 1.0)
