"""Stage `imaging`: the imaging parameters and the thickness that explain one image."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np

from qhrtem_jax.imaging.problem import ImagingProblem
from qhrtem_jax.imaging.result import ImagingResult
from qhrtem_jax.imaging.search import Found, Search
from qhrtem_jax.imaging.several_means import fit_several, means_table
from qhrtem_jax.inputs.columns import load_specimen
from qhrtem_jax.inputs.parameter_space import SHIFT, ParameterSpace
from qhrtem_jax.io.cost import Cost
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import (
    GUESSED_VARIANCE,
    MISFIT_MATTERS,
    NoiseModel,
    effective_variance,
    measure_noise,
    misfit_variance,
)
from qhrtem_jax.matching.objective import Band, band_of, in_band, make_objective
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.uncertainty import Errors, fit_errors, strong_correlations
from qhrtem_jax.reporting.result import (
    Parameter,
    correlations_of,
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)

log = logging.getLogger(__name__)

AT_BOUND = 1e-3
"""A parameter within this share of its range from a bound is reported as lying there."""


def run(problem: ImagingProblem, journal: Journal) -> ImagingResult:
    """Fit; the journal's folder gets history and checkpoints meanwhile."""
    settings, space = problem.settings, problem.space
    simulator, choice = problem.simulator()
    image = problem.experiment.image
    noise = problem.experiment.noise
    variance = GUESSED_VARIANCE if noise is None else effective_variance(noise, image)
    search = _search(problem, simulator, variance, journal)
    found = search.run()
    model = _Model(simulator, space)
    simulation = model.image(found.vector)
    residual = simulation - image
    if space.has_priors and settings.optimizer.name != "turbo":
        # A model that misses the image by more than the noise must not outweigh what is known.
        misfit = misfit_variance(residual, image)
        if noise is None or misfit > MISFIT_MATTERS * variance:
            variance = misfit
            found = search.reweigh(found.vector, variance)
            simulation = model.image(found.vector)
            residual = simulation - image
    names = model.names
    if noise is None:
        noise = _noise_of_residual(residual, len(names))
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
    )
    result = ImagingResult(
        **header(settings, problem.reader),
        warnings=(
            *problem.warnings,
            *_remarks(found.vector, space, names, errors, noise),
            *noise_remarks(noise),
        ),
        grid=grid_sizes(choice),
        noise=noise_of(noise),
        fit=figures_of_merit(
            simulation, image, None if noise.source == "residual" else errors.chi2_reduced
        ),
        parameters=_parameters(found, space, names, errors, variance, image.size),
        correlations=correlations_of(errors.strong_correlations(names)),
        cost=Cost(found.evaluations, found.gradient_evaluations, 0.0, 0.0),
        arrays={
            "experiment": image.astype(np.float32),
            "simulation": simulation.astype(np.float32),
            "difference": residual.astype(np.float32),
        },
        history=found.history,
        bounds={v.name: (v.low, v.high) for v in (*space.fitted.space.variables, space.thickness)},
        slice_nm=problem.crystal.slice_thickness_nm,
    )
    if problem.experiment.others:
        result = _with_means(problem, found.vector, result)
    journal.count(evaluations=result.cost.evaluations, gradients=result.cost.gradient_evaluations)
    return dataclasses.replace(result, cost=journal.cost())


def _with_means(
    problem: ImagingProblem, vector: np.ndarray, result: ImagingResult
) -> ImagingResult:
    """All means fitted together from what the first one gave."""
    images = np.array([problem.experiment.image, *problem.experiment.others])
    noise = problem.experiment.noise
    specimen = load_specimen(problem.settings, problem.reader)
    problem.reader.warnings()  # said already
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
    jacobians = result.cost.gradient_evaluations + fit.gradient_evaluations
    return dataclasses.replace(
        result,
        parameters=parameter_table(fit.vectors[0], free, std_noise, std),
        fit=figures_of_merit(fit.simulations[0], images[0], chi2),
        means=means,
        correlations=correlations_of(
            strong_correlations(fit.covariance, fit.shared, fit.determined)
        ),
        cost=dataclasses.replace(result.cost, gradient_evaluations=jacobians),
        arrays=result.arrays
        | {
            "simulation": fit.simulations[0].astype(np.float32),
            "difference": residuals[0].astype(np.float32),
            "means_experiment": images.astype(np.float32),
            "means_simulation": fit.simulations.astype(np.float32),
        },
    )


def _search(
    problem: ImagingProblem, simulator: Simulator, variance: float, journal: Journal
) -> Search:
    space, settings = problem.space, problem.settings
    thickness = space.thickness
    steps = np.arange(space.thickness_range[0], space.thickness_range[1] + 1)
    penalty = np.zeros(len(steps))
    if thickness.prior_mean is not None and thickness.prior_std is not None:
        distance = (steps - thickness.prior_mean) / thickness.prior_std
        penalty = distance**2 * variance / problem.experiment.image.size
    objective = make_objective(
        simulator,
        jnp.asarray(problem.experiment.image, simulator.dtype),
        thickness_range=space.thickness_range,
        shift_range=tuple((v.low, v.high) for v in space.shift),  # type: ignore[arg-type]
        profile=space.profiled,
        thickness_penalty=penalty,
    )
    band = band_of(simulator)
    return Search(
        objective if band is None else in_band(objective, band),
        space,
        settings.optimizer,
        data_variance=variance,
        seed=settings.seed,
        folder=journal.folder,
        resume=settings.resume,
        report=journal.report,
    )


class _Model:
    """Images of a simulator, and their Jacobian by the continuous parameters `names` in units of
    their ranges: by pixels, or by coordinates in a `band` where there are too many pixels."""

    def __init__(self, simulator: Simulator, space: ParameterSpace) -> None:
        variables = [v for v in space.fitted.space.variables if v.name != "thickness"]
        self.names = tuple(v.name for v in variables)
        self.band: Band | None = band_of(simulator)
        self._width = np.array([v.high - v.low for v in variables])
        self._dtype = simulator.dtype
        self._image = jax.jit(lambda v: simulator.image(v))  # a bound method has no hash
        short = simulator if self.band is None else self.band.of(simulator)
        self._both = jax.jit(lambda v: image_and_jacobian(short, v, self.names))

    @property
    def basis(self) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.band is None else (self.band.along_rows, self.band.along_cols)

    def image(self, vector: np.ndarray) -> np.ndarray:
        """(rows, cols)"""
        point = jnp.asarray(vector, self._dtype)
        image = self._both(point)[0] if self.band is None else self._image(point)
        return np.asarray(image, dtype=float)

    def jacobian(self, vector: np.ndarray) -> np.ndarray:
        """(parameters, rows, cols)"""
        jacobian = self._both(jnp.asarray(vector, self._dtype))[1]
        return np.asarray(jacobian, dtype=float) * self._width[:, None, None]


def _noise_of_residual(residual: np.ndarray, fitted: int) -> NoiseModel:
    measured = measure_noise(residual, "residual")
    inflation = residual.size / max(residual.size - fitted, 1)
    return dataclasses.replace(measured, variance=measured.variance * inflation)


def _parameters(
    found: Found,
    space: ParameterSpace,
    names: tuple[str, ...],
    errors: Errors,
    data_variance: float,
    pixels: int,
) -> dict[str, Parameter]:
    fitted = space.fitted.space
    widths = dict(zip(fitted.names, fitted.high - fitted.low, strict=True))
    std_noise: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    for k, name in enumerate(names):
        known = bool(errors.determined[k])
        std_noise[name] = float(errors.std_noise[k] * widths[name]) if known else None
        std[name] = float(errors.std[k] * widths[name]) if known else None
    for errors_of, chi2 in ((std_noise, 1.0), (std, max(1.0, errors.chi2_reduced))):
        errors_of["thickness"] = _thickness_error(found, data_variance * chi2, pixels)
    free = set(names) | ({"thickness"} if space.thickness_free else set())
    if space.shift_free:
        free |= set(SHIFT)
    return parameter_table(found.vector, free, std_noise, std)


def _thickness_error(found: Found, data_variance: float, pixels: int) -> float | None:
    """Deviation of the thickness over the likelihood of those that least squares refined.

    None where the neighbours of the best were not refined.
    """
    best = round(float(found.vector[INDEX["thickness"]]))
    costs = found.thickness_costs
    if not all(best + step in costs for step in (-1, 1)):
        return None
    steps = np.array(sorted(costs))
    chi2 = np.array([costs[int(n)] for n in steps]) * pixels / data_variance
    weight = np.exp(-0.5 * (chi2 - np.min(chi2)))
    deviation = float(np.sqrt(np.sum(weight * (steps - best) ** 2) / np.sum(weight)))
    return round(deviation, 4)


def _remarks(
    vector: np.ndarray,
    space: ParameterSpace,
    names: tuple[str, ...],
    errors: Errors,
    noise: NoiseModel,
) -> list[str]:
    """What a reader must know before trusting the numbers."""
    remarks = []
    fitted = space.fitted.space
    for k, variable in enumerate(v for v in fitted.variables if v.name != "thickness"):
        share = (vector[INDEX[variable.name]] - variable.low) / (variable.high - variable.low)
        for edge, text in ((share, "low"), (1.0 - share, "high")):
            if edge < AT_BOUND:
                remarks.append(
                    f"{variable.name} lies at its {text} bound "
                    f"({getattr(variable, text):g} {variable.unit})"
                )
        if not errors.determined[k]:
            held = "" if variable.prior_std is None else ": its prior holds it"
            remarks.append(f"{variable.name} is not determined by this image{held}")
    if space.thickness_free:
        first, last = space.thickness_range
        if round(float(vector[INDEX["thickness"]])) in (first, last):
            remarks.append(f"thickness lies at a bound of {first}..{last} slices")
    if noise.source != "residual" and errors.chi2_reduced > 1.5:
        remarks.append(
            f"the misfit is {errors.chi2_reduced:.1f} times what the noise explains: "
            "`std` is scaled accordingly, and systematic errors may be larger"
        )
    return remarks
