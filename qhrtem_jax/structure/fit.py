"""The fit of positions of columns and occupancies of chains to one image."""

import dataclasses

import numpy as np

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.weights import pixel_weights, same_weights
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.structure.model import StructureModel, StructureState, fitter

CONVERGED = 1e-3
"""Rounds of `alternate` end when the objective falls by less than this share."""

WEIGHTS, ITERATIONS = 3, 40
"""The weights are chosen at most so often; steps of each least squares."""


def solve(model: StructureModel, journal: Journal) -> StructureState:
    """Fit, choose the weights of the pixels by what is missed, and fit again.

    **Raises:** `NonFiniteError` if no finite structure explains the image.
    """
    known, state = model.problem.experiment.noise, StructureState(model.start)
    # the weights against the priors depend on the misfit, which shrinks as the fit proceeds
    for number in range(WEIGHTS):
        simulation = fitter(model, state.noise).images(state.point[None])
        weights = pixel_weights(known, simulation - model.image, model.image[None])
        if number and same_weights(weights, state.noise):
            break
        state = _fitted(model, dataclasses.replace(state, noise=weights), journal)
    if not np.all(np.isfinite(state.point)):
        raise NonFiniteError("the structure fit gave numbers that are not finite")
    return state


def _fitted(model: StructureModel, state: StructureState, journal: Journal) -> StructureState:
    """Least squares under the weights of `state`, with the imaging parameters as is asked for."""
    if model.mode == "fixed":
        return _least_squares(model, state, model.structure, "structure", journal)[0]
    if model.mode == "joint":
        state, _ = _least_squares(model, state, model.structure, "structure", journal)
        phase = "imaging and structure"
        return _least_squares(model, state, model.everything, phase, journal)[0]
    last = np.inf
    for _ in range(model.problem.settings.structure.rounds):
        state, _ = _least_squares(model, state, model.structure, "structure", journal)
        state, cost = _least_squares(model, state, model.imaging, "imaging", journal)
        if last - cost < CONVERGED * cost:
            break
        last = cost
    return state


def _least_squares(
    model: StructureModel,
    state: StructureState,
    coordinates: Coordinates,
    phase: str,
    journal: Journal,
) -> tuple[StructureState, float]:
    """(state after least squares of `coordinates`, its objective)."""
    method = LevenbergMarquardt(coordinates.prior_mean, coordinates.prior_std, ITERATIONS, 1e-5)
    fit, image = fitter(model, state.noise), model.image
    points, costs, calls = fit.fit(coordinates, state.point[None], image[None], method)
    journal.count(int(calls[0]), int(calls[0]))
    found = fit.images(points)[0]
    journal.note(phase, float(np.mean((found - image) ** 2)), picture=lambda: (image, found))
    return dataclasses.replace(state, point=points[0]), float(costs[0])
