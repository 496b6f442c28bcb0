"""Sweeps: one simulation of the whole field, then least squares region by region.

Each sweep adds to every region's periodic image the difference that its neighbours make (deferred
correction); the regions then move on their own, with the imaging parameters shared by all. Cells
that no region shows are fitted to the image beside them.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.field.model import (
    FieldModel,
    JointState,
    OwnAndShared,
    free_coordinates,
    weights,
    with_image,
)
from qhrtem_jax.field.simulate import content, cut, difference, image, note_fit, snapped
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.weights import pixel_weights, same_weights
from qhrtem_jax.refine.hidden import filled
from qhrtem_jax.refine.pooled import Pooled, pooled_fit
from qhrtem_jax.refine.unknown_cells import fit_unknown

ITERATIONS = 6
"""Steps of the regions' least squares in a sweep."""

CLOSE = 0.1
"""Weights stay where the misfit differs by less than this share from what they were made of."""

Fixed = Bool[np.ndarray, "regions chains"]


def fixed(state: JointState, *, whole: bool) -> Fixed:
    """All numbers fixed, or none."""
    return np.full((len(state.points), state.first.shape[1]), whole)


def sweep(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    phase: str,
    fixed: Fixed,
    *,
    weigh: bool = True,
) -> JointState:
    """One field simulation, then least squares of everything but the `fixed` numbers; `weigh`:
    choose the weights of the pixels anew, where no noise is given."""
    targets, missed = deferred_targets(model, state, journal)
    if weigh and model.given_noise is None:
        state = _weighed(model, state, missed)
    if state.settled:
        state = dataclasses.replace(state, points=snapped(model, state))
    found = _least_squares(model, state, journal, fixed, targets, ITERATIONS)
    note_fit(model, missed, journal, phase)
    return dataclasses.replace(state, points=found.points, system=found.system)


def pool(model: FieldModel, state: JointState, journal: Journal, fixed: Fixed) -> JointState:
    """The state with the normal equations of its regions."""
    targets, _ = deferred_targets(model, state, journal)
    found = _least_squares(model, state, journal, fixed, targets, 0)
    return dataclasses.replace(state, system=found.system)


def weigh(model: FieldModel, state: JointState, journal: Journal) -> JointState:
    """Pixels weighed by what is missed at present; the same state where that changes little."""
    return _weighed(model, state, difference(model, state, journal))


def explain_unknown(
    model: FieldModel, state: JointState, journal: Journal, steps: int
) -> JointState:
    """Fit the cells that no region shows by `steps` gradient steps."""
    if not model.cells.unknown_cells.size:
        return state
    experiment = model.problem.field.image
    unknown = fit_unknown(
        state.stack.simulator,
        state.weights.whole,
        jnp.asarray(experiment, model.dtype),
        content(model, state),
        model.cells.unknown_cells,
        jnp.asarray(state.first, model.dtype),
        model.most,
        model.per_cell,
        state.unknown,
        steps,
    )
    journal.count(gradients=steps)
    return dataclasses.replace(state, unknown=unknown)


def refilled(model: FieldModel, state: JointState, journal: Journal) -> FieldModel:
    """The model with what its state says of pixels that carry no weight; the same where there are
    none."""
    hidden, (rows, cols) = model.problem.field.hidden, model.targets.shape[1:]
    if hidden is None:
        return model
    simulation, experiment = image(model, state, journal), model.problem.field.image
    whole = np.where(hidden, simulation, experiment)
    for k, (r, c) in enumerate(model.corners):
        part = np.s_[r : r + rows, c : c + cols]
        likelihood = state.weights.fit.likelihood
        whole[part] = filled(likelihood, simulation[part], model.targets[k], hidden[part])
    return with_image(model, whole)


def deferred_targets(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    of: slice | Int[np.ndarray, " some"] = slice(None),
) -> tuple[Float[np.ndarray, "some rows cols"], Float[np.ndarray, "some rows cols"]]:
    """(targets less what the neighbours add to each region, what the field misses of them); `of`:
    which regions."""
    simulated, targets = cut(model, image(model, state, journal))[of], model.targets[of]
    periodic = state.weights.fit.images(snapped(model, state)[of])
    return targets - (simulated - periodic), simulated - targets


def active_coordinates(
    model: FieldModel, free: OwnAndShared, fixed: Fixed
) -> Bool[np.ndarray, "regions own"]:
    """Which own coordinates of regions move: all but the numbers that are `fixed`."""
    counts = model.layout.counts
    active = np.ones((len(fixed), free.own), dtype=bool)
    active[:, [free.coordinates.free.index(k) for k in range(counts.start, counts.stop)]] = ~fixed
    return active


def _weighed(
    model: FieldModel, state: JointState, missed: Float[np.ndarray, "regions rows cols"]
) -> JointState:
    # what all regions share absorbs hardly anything of each, but of what they miss alike
    every = model.joint.coordinates
    own = model.regions.bounds.coordinates(list(every.free[: model.joint.own]), model.dtype)
    layers = model.regions.layers_on(snapped(model, state), own, every)
    noise = pixel_weights(model.given_noise, missed, model.targets, layers)
    if same_weights(noise, state.weights.noise, CLOSE):
        return state
    return dataclasses.replace(state, weights=weights(model, noise))


def _least_squares(
    model: FieldModel,
    state: JointState,
    journal: Journal,
    fixed: Fixed,
    targets: Float[np.ndarray, "regions rows cols"],
    iterations: int,
) -> Pooled:
    """Regions against `targets`; without `iterations`, their normal equations as they are."""
    free = free_coordinates(model, state)
    active = active_coordinates(model, free, fixed)
    found = pooled_fit(
        state.weights.fit,
        free.coordinates,
        free.own,
        state.points,
        targets,
        active,
        iterations=iterations,
        tick=journal.tick("least squares"),
    )
    journal.count(evaluations=found.jacobians, gradients=found.jacobians)
    return found
