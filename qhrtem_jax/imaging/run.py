"""Stage `imaging`: the imaging parameters and the thickness that explain one image."""

import dataclasses

import numpy as np

from qhrtem_jax.imaging.estimates import (
    LEAST_PROBABILITY,
    covariance_of,
    estimates,
    noise_of_residual,
    remarks,
    thickness_probability,
)
from qhrtem_jax.imaging.model import search_model
from qhrtem_jax.imaging.origin import out_of_reach, with_origin
from qhrtem_jax.imaging.problem import ImagingProblem
from qhrtem_jax.imaging.result import ImagingResult
from qhrtem_jax.imaging.search import reweighed, search
from qhrtem_jax.imaging.several_means import fit_several, means_table
from qhrtem_jax.inputs.columns import specimen_of
from qhrtem_jax.io.cost import Cost
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import (
    GUESSED_VARIANCE,
    MISFIT_MATTERS,
    effective_variance,
    misfit_variance,
)
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.refine.uncertainty import fit_errors, strong_correlations
from qhrtem_jax.reporting.result import (
    correlations_of,
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)


def run(problem: ImagingProblem, journal: Journal) -> ImagingResult:
    """Fit; the journal's folder gets history and checkpoints meanwhile."""
    simulator, choice = problem.simulator()
    result = _fitted(problem, simulator, choice, journal)
    if out_of_reach(result.parameters, result.fit.ncc, problem.space):
        elsewhere = with_origin(problem, simulator, journal)
        if elsewhere is not problem:
            other = _fitted(elsewhere, simulator, choice, journal)
            result = min(result, other, key=lambda found: found.fit.mse)
    return dataclasses.replace(result, cost=journal.cost(), history=tuple(journal.rows))


def _fitted(
    problem: ImagingProblem, simulator: Simulator, choice: GridChoice, journal: Journal
) -> ImagingResult:
    """The fit with A0 within its bounds; its cost is still to come."""
    settings, space = problem.settings, problem.space
    image = problem.experiment.image
    noise = problem.experiment.noise
    variance = GUESSED_VARIANCE if noise is None else effective_variance(noise, image)
    searched = search_model(problem, simulator, variance, journal.seconds)
    found = search(searched, journal)
    model = searched.images
    simulation = model.image(found.vector)
    residual = simulation - image
    if space.has_priors and settings.optimizer.name != "turbo":
        # A model that misses the image by more than the noise must not outweigh what is known.
        misfit = misfit_variance(residual, image)
        if noise is None or misfit > MISFIT_MATTERS * variance:
            variance = misfit
            again = reweighed(searched, found.vector, variance, journal)
            found = dataclasses.replace(
                again, starts=found.starts, ends=found.ends, misfit=found.misfit
            )
            simulation = model.image(found.vector)
            residual = simulation - image
    names = model.names
    if noise is None:
        noise = noise_of_residual(residual, len(names))
        if not space.has_priors:
            variance = effective_variance(noise, image)
    fitted = space.fitted.space
    columns = [fitted.names.index(name) for name in names]
    errors = fit_errors(
        residual,
        model.jacobian(found.vector),
        noise,
        variance,
        fitted.prior_std[columns],
        model.basis,
        image,
    )
    by_noise = searched.weighed(effective_variance(noise, image)).information
    if variance > effective_variance(noise, image):  # the misfit weighed the pixels already
        scaled = searched.weighed(variance).information
    else:
        scaled = None if by_noise is None else by_noise / max(1.0, errors.chi2_reduced)
    result = ImagingResult(
        **header(settings, problem.reader),
        warnings=(
            *problem.warnings,
            *remarks(found.vector, space, names, errors, noise, found),
            *noise_remarks(noise),
        ),
        grid=grid_sizes(choice),
        noise=noise_of(noise),
        fit=figures_of_merit(
            simulation, image, None if noise.source == "residual" else errors.chi2_reduced
        ),
        parameters=estimates(found, space, names, errors, (by_noise, scaled)),
        correlations=correlations_of(errors.strong_correlations(names)),
        cost=Cost(0, 0, 0.0, 0.0),  # until all is done
        arrays={
            "experiment": image.astype(np.float32),
            "simulation": simulation.astype(np.float32),
            "difference": residual.astype(np.float32),
        },
        bounds={v.name: (v.low, v.high) for v in (*space.fitted.space.variables, space.thickness)},
        thickness_probability=_likely(thickness_probability(found, scaled)),
        thickness_objective=_by_thickness(found.thickness_costs),
        slice_nm=problem.crystal.slice_thickness_nm,
        covariance=covariance_of(space, names, errors),
    )
    if problem.experiment.others:
        result = _with_means(problem, found.vector, result, journal)
    return result


def _likely(known: dict[int, float] | None) -> dict[str, float] | None:
    """The probabilities that are reported."""
    if known is None:
        return None
    return {str(n): round(p, 4) for n, p in known.items() if p >= LEAST_PROBABILITY}


def _by_thickness(known: dict[int, float]) -> dict[str, float] | None:
    """Objectives in the order of the thickness; None where no gradients were used."""
    return {str(n): known[n] for n in sorted(known)} or None


def _with_means(
    problem: ImagingProblem, vector: np.ndarray, result: ImagingResult, journal: Journal
) -> ImagingResult:
    """All means fitted together from what the first one gave."""
    images = np.array([problem.experiment.image, *problem.experiment.others])
    noise = problem.experiment.noise
    specimen = specimen_of(problem.crystal, problem.microscope, problem.settings)
    fit = fit_several(specimen, problem.space, images, problem.experiment.frame, noise, vector)
    means, scale = means_table(fit, images, noise)
    residuals = fit.simulations - images
    known = {n: s for n, s in zip(NAMES, fit.std[0], strict=True) if np.isfinite(s)}
    std_noise: dict[str, float | None] = {n: float(s * scale.noise) for n, s in known.items()}
    std: dict[str, float | None] = {
        n: float(s * scale.noise * scale.misfit) for n, s in known.items()
    }
    free = {n for n, entry in result.parameters.items() if entry.free}
    chi2 = result.fit.chi2_reduced
    if chi2 is not None and noise is not None:
        chi2 = float(np.mean(residuals[0] ** 2) / noise.variance)
    journal.count(gradients=fit.gradient_evaluations)
    return dataclasses.replace(
        result,
        parameters=parameter_table(fit.vectors[0], free, std_noise, std),
        fit=figures_of_merit(fit.simulations[0], images[0], chi2),
        means=means,
        thickness_probability=None,  # these are of one image alone
        thickness_objective=None,
        covariance=None,
        correlations=correlations_of(
            strong_correlations(fit.covariance, fit.shared, fit.determined)
        ),
        arrays=result.arrays
        | {
            "simulation": fit.simulations[0].astype(np.float32),
            "difference": residuals[0].astype(np.float32),
            "means_experiment": images.astype(np.float32),
            "means_simulation": fit.simulations.astype(np.float32),
        },
    )
