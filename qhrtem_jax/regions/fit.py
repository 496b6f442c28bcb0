"""The fit of all regions with the imaging parameters given: start, relax, count."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.weights import pixel_weights, same_weights, tempered
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.counting import search
from qhrtem_jax.refine.hidden import filled
from qhrtem_jax.refine.integers import fix_surest
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.regions.model import RegionsModel, RegionState, fitter, with_targets
from qhrtem_jax.regions.search import bayesian_starts
from qhrtem_jax.regions.slabs import best_slabs

log = logging.getLogger(__name__)

OFF_INTEGER = 0.3
"""Relaxed fits start so far above whole numbers, where the image has a kink."""

FIRST_ITERATIONS, LATER_ITERATIONS, WHOLE_ITERATIONS = 30, 20, 10
"""Steps of least squares: with relaxed numbers, again with other weights, with whole numbers."""


HIDDEN_ROUNDS = 2
"""So often regions are fitted again to what fits say of pixels that carry no weight."""


def fit_regions(model: RegionsModel, journal: Journal) -> tuple[RegionsModel, RegionState]:
    """(the model, with what is known of pixels that carry no weight; its regions, counted)."""
    state = relax(model, start(model, journal), journal)
    if model.hidden.any():
        for _ in range(HIDDEN_ROUNDS):
            model = refilled(model, state)
            state = relax(model, state, journal)
        model = refilled(model, state)
    return model, count(model, state, journal)


def refilled(model: RegionsModel, state: RegionState) -> RegionsModel:
    """The model with what its state says of pixels that carry no weight."""
    known = fitter(model, state.noise)
    images = known.images(state.points)
    targets = np.array(
        [
            filled(known.likelihood, image, target, hidden)
            for image, target, hidden in zip(images, model.targets, model.hidden, strict=True)
        ]
    )
    return with_targets(model, targets)


def start(model: RegionsModel, journal: Journal) -> RegionState:
    """Starts: the best of plane-parallel slabs over thickness and C1, then, by option, Bayesian
    optimization of the numbers, C1 and absorption around it."""
    points = best_slabs(model, journal)
    settings = model.problem.settings
    if settings.optimizer.name != "lm" and settings.reconstruct.max_evaluations > 0:
        points = bayesian_starts(model, points, journal)
    return RegionState(points, points, model.first_weights)


def relax(model: RegionsModel, state: RegionState, journal: Journal) -> RegionState:
    """Least squares with relaxed numbers, pixels weighed by what is missed.

    **Raises:** `NonFiniteError` if no region gives a finite image.
    """
    noise, counts = state.noise, model.layout.counts
    points = state.points.copy()
    points[:, counts] = np.minimum(points[:, counts] + OFF_INTEGER, model.most - 0.5 * OFF_INTEGER)
    points = _least_squares(model, noise, model.relaxed, points, FIRST_ITERATIONS, journal)
    for _ in range(2):
        images = fitter(model, noise).images(points)
        residuals = images - model.targets
        shown = model.targets, images
        journal.note("relaxed numbers", float(np.mean(residuals**2)), picture=lambda s=shown: s)
        fine = np.all(np.isfinite(images), axis=(1, 2))
        if not fine.any():
            raise NonFiniteError("no region gave a finite image")
        missed = residuals[fine], images[fine]
        layers = model.layers_on(points[fine], model.relaxed)
        weights = pixel_weights(model.problem.field.noise, *missed, layers)
        weights = tempered(weights, *missed, len(model.relaxed.free))
        if same_weights(weights, noise):
            break
        noise = weights
        points = _least_squares(model, noise, model.relaxed, points, LATER_ITERATIONS, journal)
    return dataclasses.replace(state, points=points, relaxed_points=points, noise=noise)


def count(model: RegionsModel, state: RegionState, journal: Journal) -> RegionState:
    """Whole numbers: the surest first, then the search that certifies them."""
    region_fit = fitter(model, state.noise)
    points = _surest_numbers(model, state, journal)
    points = _least_squares(model, state.noise, model.nuisances, points, WHOLE_ITERATIONS, journal)

    def report(done: int) -> None:
        log.debug("%d of %d regions certified", done, len(points))
        journal.note(f"counting, {done} of {len(points)} regions done")

    counted = search(
        region_fit,
        model.columns,
        model.constraints,
        model.nuisances,
        points,
        model.targets,
        shared=model.shared,
        passes=model.problem.settings.reconstruct.passes,
        report=report,
        tick=journal.tick("counting"),
    )
    journal.count(sum(len(s) for s in counted.states))
    images = region_fit.images(counted.points)
    mse = float(np.mean((images - model.targets) ** 2))
    journal.note("counted", mse, picture=lambda: (model.targets, images))
    remarks = _remarks(model, images, counted.certified, state.noise)
    remarks += full_remarks(model, counted.points)
    return dataclasses.replace(
        state, points=counted.points, counted=counted, remarks=state.remarks + remarks
    )


def _least_squares(
    model: RegionsModel,
    noise: NoiseModel,
    coordinates: Coordinates,
    points: np.ndarray,
    iterations: int,
    journal: Journal,
) -> np.ndarray:
    """Points (regions, point) after least squares of `coordinates`."""
    method = LevenbergMarquardt(coordinates.prior_mean, coordinates.prior_std, iterations, 1e-4)
    tick = journal.tick("least squares")
    points, _, calls = fitter(model, noise).fit(coordinates, points, model.targets, method, tick)
    journal.count(int(calls.sum()), int(calls.sum()))
    return points


def _surest_numbers(model: RegionsModel, state: RegionState, journal: Journal) -> np.ndarray:
    """Points (regions, point) with whole numbers, in each region the surest first."""
    counts, relaxed = model.layout.counts, model.relaxed
    tick = journal.tick("counting")
    lin = fitter(model, state.noise).linearise(relaxed, state.points, model.targets, tick)
    precision = np.diag(relaxed.host().precision)
    at = slice(len(model.nuisances.free), len(relaxed.free))
    scale = relaxed.host().width[at]
    points = state.points.copy()
    for k, point in enumerate(points):
        if not np.all(np.isfinite(lin.hessian[k])):
            point[counts] = np.rint(np.nan_to_num(point[counts], nan=1.0))
            continue
        covariance = np.linalg.pinv(lin.hessian[k] + precision, hermitian=True)[at, at]
        numbers = fix_surest(point[counts], covariance * np.outer(scale, scale), model.most)
        point[counts] = model.constraints.repair(numbers)
    return points


def _remarks(
    model: RegionsModel, images: np.ndarray, certified: np.ndarray, noise: NoiseModel
) -> tuple[str, ...]:
    """What a reader must know before trusting the numbers."""
    remarks = []
    for region, image, certain in zip(model.problem.regions, images, certified, strict=True):
        if not np.all(np.isfinite(image)):
            remarks.append(f"{region.name}: the fit failed, its numbers mean nothing")
        elif not certain:
            remarks.append(
                f"{region.name}: a single or paired change of numbers may still improve it"
            )
    return (*remarks, *misfit_remarks(noise))


def full_remarks(
    model: RegionsModel,
    points: Float[np.ndarray, "regions point"],
    begins: Int[np.ndarray, "regions chains"] | None = None,
) -> tuple[str, ...]:
    """Regions whose columns fill the whole stack, so that they may go on beyond it; `begins`: ranks
    of chains' first atoms, where these are not 0."""
    cells = model.problem.settings.specimen.max_cells
    most = model.most if begins is None else model.constraints.room(begins)
    full = np.any(np.rint(points[:, model.layout.counts]) >= most, axis=1)
    return tuple(
        f"{region.name}: a column fills all {cells} cells that are allowed: allow more"
        for region, is_full in zip(model.problem.regions, full, strict=True)
        if is_full
    )


def misfit_remarks(noise: NoiseModel) -> tuple[str, ...]:
    """What numbers that were counted under the weights `noise` must be taken with."""
    if noise.speckle is not None and not noise.speckle.has_layers:
        return (
            "the misfit exceeds the camera's noise, and disordered layers do not explain it: it "
            "weighs the pixels as an intensity that the camera sees (`noise`)",
        )
    if noise.speckle is not None:
        rest = "" if noise.is_noise else " and a part that these do not explain"
        return (
            "the misfit exceeds the camera's noise: it is taken as speckle of disordered layers"
            f"{rest}, and weighs the pixels as that (`noise`)",
        )
    if noise.is_noise:
        return ()
    return (
        "the misfit exceeds the noise: it weighs the pixels, and probabilities and errors follow "
        "from it",
    )
