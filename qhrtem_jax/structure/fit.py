"""Stage `structure`: positions of columns and occupancies of chains in one (mean) image."""

import dataclasses
import logging
from typing import Any

import numpy as np

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.inputs.columns import (
    Bounds,
    error_scale,
    pixel_weights,
    same_weights,
    without_mean_shift,
)
from qhrtem_jax.inputs.parameter_space import SHIFT
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import GUESSED_VARIANCE, NoiseModel
from qhrtem_jax.physics.columns import sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, moved_plane
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.regions import Coordinates, make_region_model
from qhrtem_jax.refine.uncertainty import UNDETERMINED, strong_correlations
from qhrtem_jax.reporting.column_tables import (
    columns_table,
    model_structure,
    mtf_scale_table,
    point_names,
)
from qhrtem_jax.reporting.result import (
    correlations_of,
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)
from qhrtem_jax.structure.problem import StructureProblem
from qhrtem_jax.structure.result import StructureResult

log = logging.getLogger(__name__)

CONVERGED = 1e-3
"""Rounds of `alternate` end when the objective falls by less than this share."""


def run(problem: StructureProblem, journal: Journal) -> StructureResult:
    """Fit the columns and, by option, the imaging parameters."""
    assert problem.imaging is not None
    vector = problem.imaging
    image = problem.experiment.image
    slices = max(1, round(float(vector[INDEX["thickness"]])))
    fit = _Fit(problem, vector, slices, journal)
    fit.solve(problem.experiment.noise)
    noise = fit.noise
    simulation = fit.model.images(fit.point[None])[0]
    residual = simulation - image
    errors = fit.errors()
    std_noise, std = fit.imaging_errors(errors)
    columns = problem.specimen.columns
    scales = None
    if fit.bounds.camera:
        given = problem.settings.data.mtf_scale
        scales = mtf_scale_table(fit.layout, given, fit.point, errors.std_noise, errors.scale)
    model = model_structure(columns, fit.layout, fit.point)
    return StructureResult(
        **header(problem.settings, problem.reader),
        warnings=(*problem.warnings, *errors.remarks, *noise_remarks(noise)),
        grid=grid_sizes(fit.choice),
        noise=noise_of(noise),
        fit=figures_of_merit(simulation, image, errors.chi2_reduced),
        parameters=parameter_table(fit.result_vector(), set(fit.fitted_imaging()), std_noise, std),
        correlations=correlations_of(errors.correlations),
        columns=columns_table(
            columns,
            fit.layout,
            fit.point,
            errors.std_noise,
            errors.scale,
            remove_mean=fit.mode != "fixed",
        ),
        mtf_scale=scales,
        cost=journal.cost(),
        cell=columns,
        arrays={
            "experiment": image.astype(np.float32),
            "simulation": simulation.astype(np.float32),
            "difference": residual.astype(np.float32),
        },
        structures={"structure": (columns.size_nm, model, "mean structure, one repeating cell")},
        history=tuple(journal.rows),
    )


@dataclasses.dataclass(frozen=True)
class StructureErrors:
    """Errors of a whole point (NaN where fixed, infinite where not determined)."""

    std_noise: np.ndarray
    scale: float  # of `std` against `std_noise`
    chi2_reduced: float | None
    correlations: list[dict[str, Any]]
    remarks: list[str]


class _Fit:
    """The fit of one image, with the point that it has reached."""

    def __init__(
        self, task: StructureProblem, vector: np.ndarray, slices: int, journal: Journal
    ) -> None:
        settings, columns = task.settings, task.specimen.columns
        self.task, self.journal = task, journal
        cells = -(-slices // columns.slices)
        sites = sites_of(columns, cells)
        self.surplus_nm = (sites.stack - slices) * columns.slice_nm
        frame = task.experiment.frame
        self.choice = task.specimen.grids(frame, vector, slices)
        self.layout = Layout(len(columns.xy), len(columns.chains))
        self.mode = settings.structure.imaging
        coordinates = len(NAMES) + 2 * self.layout.columns + self.layout.chains
        self.simulator: StructuredSimulator = task.specimen.simulator(
            sites, frame, self.choice, coordinates
        )
        given = np.array([chain.occupancy for chain in columns.chains])
        self.slices = slices
        self.point = self.layout.point(
            moved_plane(vector, self.surplus_nm),
            np.zeros((self.layout.columns, 2)),
            columns.numbers_of_slices(slices),
            given,
        )
        self.bounds = bounds = Bounds(self.layout, task.space)
        bounds.shifts(settings.structure.position_std_nm)
        bounds.occupancies(given, settings.structure.occupancy_std)
        for name in (*SHIFT, "C1"):
            # the wave passes whole cells, so these refer to a plane behind the exit face
            moved = self.point[INDEX[name]] - vector[INDEX[name]]
            bounds.low[INDEX[name]] += moved
            bounds.high[INDEX[name]] += moved
            bounds.mean[INDEX[name]] += moved
        if self.mode != "fixed":  # which says that the camera is known too
            bounds.mtf_scale(task.specimen.mtf_scale_std)
        structure = bounds.of(self.layout.shifts) + bounds.of(self.layout.occupancies)
        structure += bounds.camera
        imaging = bounds.indices(bounds.imaging)
        bounds.include(self.point)
        dtype = self.simulator.simulator.dtype
        self.structure = bounds.coordinates(structure, dtype)
        self.imaging = bounds.coordinates(imaging, dtype)
        self.everything = bounds.coordinates(imaging + structure, dtype)
        self.noise = NoiseModel(GUESSED_VARIANCE)
        self.is_noise = True
        self.model = make_region_model(self.simulator, self.noise)

    def solve(self, noise: NoiseModel | None) -> None:
        """Fit, choose the weights of the pixels by what is missed, and fit again."""
        image = self.task.experiment.image
        # the weights against the priors depend on the misfit, which shrinks as the fit proceeds
        for number in range(3):
            residual = self.model.images(self.point[None])[0] - image
            weights, is_noise = pixel_weights(noise, residual[None], image[None])
            if number and same_weights(weights, self.noise):
                break
            self.noise, self.is_noise = weights, is_noise
            self.model = make_region_model(self.simulator, self.noise)
            self._rounds()
        if not np.all(np.isfinite(self.point)):
            raise NonFiniteError("the structure fit gave numbers that are not finite")

    def _rounds(self) -> None:
        if self.mode == "fixed":
            self._least_squares(self.structure, "structure")
        elif self.mode == "joint":
            self._least_squares(self.structure, "structure")
            self._least_squares(self.everything, "imaging and structure")
        else:
            last = np.inf
            for _ in range(self.task.settings.structure.rounds):
                self._least_squares(self.structure, "structure")
                cost = self._least_squares(self.imaging, "imaging")
                if last - cost < CONVERGED * cost:
                    break
                last = cost

    def _least_squares(self, coordinates: Coordinates, phase: str) -> float:
        method = LevenbergMarquardt(coordinates.prior_mean, coordinates.prior_std, 40, 1e-5)
        image = self.task.experiment.image
        points, costs, calls = self.model.fit(coordinates, self.point[None], image[None], method)
        self.point = points[0]
        self.journal.gradient_evaluations += int(calls[0])
        self.journal.evaluations += int(calls[0])
        residual = self.model.images(points)[0] - image
        self.journal.note(phase, float(np.mean(residual**2)))
        return float(costs[0])

    def fitted_imaging(self) -> list[str]:
        return [] if self.mode == "fixed" else [NAMES[k] for k in self.imaging.free]

    def result_vector(self) -> np.ndarray:
        """Imaging parameters at the exit plane; the mean shift of the columns is in A0."""
        vector = moved_plane(self.point[self.layout.imaging], -self.surplus_nm)
        vector[INDEX["thickness"]] = self.slices
        if self.mode != "fixed":
            vector[[INDEX[name] for name in SHIFT]] += self._mean_shift()
        return vector

    def _mean_shift(self) -> np.ndarray:
        return self.point[self.layout.shifts].reshape(-1, 2).mean(axis=0)

    def errors(self) -> StructureErrors:
        """Errors of what was fitted, with all of it free together."""
        coordinates = self.structure if self.mode == "fixed" else self.everything
        image = self.task.experiment.image
        lin = self.model.linearise(coordinates, self.point[None], image[None])
        free = np.array(coordinates.free)
        width = np.asarray(coordinates.width, float)
        known = np.minimum(np.asarray(coordinates.prior_std, float), np.sqrt(1.0 / 12.0))
        covariance = np.linalg.inv(lin.hessian[0] + np.diag(1.0 / known**2))
        chi2 = float(lin.cost[0]) / max(image.size - len(free), 1)
        if self.mode != "fixed":
            covariance = without_mean_shift(covariance, free, self.layout, width)
        deviation = np.sqrt(np.diagonal(covariance))
        std = np.full(self.layout.size, np.nan)
        std[free] = deviation * width
        undetermined = deviation > UNDETERMINED * known
        std[free[undetermined]] = np.inf
        names = point_names(self.task.specimen.columns, self.layout)
        remarks = [f"{names[k]} is not determined by this image" for k in free[undetermined]]
        correlations = strong_correlations(covariance, [names[k] for k in free], ~undetermined)
        residual = np.asarray(lin.image[0]) - image
        scale = error_scale(
            self.noise, self.is_noise, self.task.experiment.noise, image, residual, chi2
        )
        if not self.is_noise:
            remarks.append(
                f"the misfit is {scale.chi2:.1f} times what the noise explains: `std` is scaled "
                "accordingly, and systematic errors may be larger"
            )
        return StructureErrors(
            std * scale.noise,
            scale.misfit,
            None if self.noise.source == "residual" else scale.chi2,
            correlations,
            remarks,
        )

    def imaging_errors(
        self, errors: StructureErrors
    ) -> tuple[dict[str, float | None], dict[str, float | None]]:
        std_noise: dict[str, float | None] = {}
        std: dict[str, float | None] = {}
        for name in self.fitted_imaging():
            value = errors.std_noise[INDEX[name]]
            known = bool(np.isfinite(value))
            std_noise[name] = float(value) if known else None
            std[name] = float(value * errors.scale) if known else None
        return std_noise, std
