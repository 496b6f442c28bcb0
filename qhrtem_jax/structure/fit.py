"""Stage `structure`: positions of columns and occupancies of chains in one (mean) image."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.imaging.search import Progress
from qhrtem_jax.inline_imaging import ImagingSource, prepare_imaging
from qhrtem_jax.inputs import problem, size
from qhrtem_jax.inputs.columns import (
    Specimen,
    bounds_of,
    load_specimen,
)
from qhrtem_jax.inputs.parameter_space import SHIFT, ParameterSpace, parameter_space
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import GUESSED_NOISE, NoiseModel
from qhrtem_jax.matching.weights import error_scale, pixel_weights, same_weights
from qhrtem_jax.physics.columns import sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, moved_plane
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.regions import make_region_model
from qhrtem_jax.refine.uncertainty import UNDETERMINED, strong_correlations, without_mean_shift
from qhrtem_jax.reporting.column_tables import (
    columns_table,
    model_structure,
    mtf_scale_table,
    point_names,
)
from qhrtem_jax.reporting.result import (
    describe_noise,
    figures_of_merit,
    header,
    noise_remarks,
    parameter_table,
)

log = logging.getLogger(__name__)

CONVERGED = 1e-3
"""Rounds of `alternate` end when the objective falls by less than this share."""


@dataclasses.dataclass(frozen=True)
class StructureProblem:
    """Everything that was read and checked before the fit starts."""

    settings: RunSettings
    space: ParameterSpace
    experiment: problem.Experiment
    specimen: Specimen
    imaging: ImagingSource
    warnings: list[str]
    fingerprint: str


def prepare(settings: RunSettings) -> StructureProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used.
    """
    warnings: list[str] = []
    space = parameter_space(settings, may_be_empty=True)
    experiment = problem.load_experiment(settings.data, warnings.append)
    specimen = load_specimen(settings, warnings.append)
    columns = specimen.columns
    size.require(
        size.columns(
            settings,
            specimen.crystal,
            stage="structure",
            stack=space.thickness_range[1],
            shape=experiment.frame.shape,
            coordinates=2 * len(columns.xy) + len(columns.chains) + len(space.fitted.space),
        ),
        settings,
    )
    imaging = prepare_imaging(settings)
    fingerprint = problem.fingerprint(settings)
    return StructureProblem(settings, space, experiment, specimen, imaging, warnings, fingerprint)


def run(
    task: StructureProblem, folder: RunFolder, report: Callable[[Progress], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fit, and return (result, arrays)."""
    journal = Journal(folder, report)
    vector = task.imaging.vector(folder, report)
    image = task.experiment.image
    slices = max(1, round(float(vector[INDEX["thickness"]])))
    fit = _Fit(task, vector, slices, journal)
    fit.solve(task.experiment.noise)
    noise = fit.noise
    simulation = fit.model.images(fit.point[None])[0]
    residual = simulation - image
    errors = fit.errors()
    fitted_imaging = fit.fitted_imaging()
    std_noise, std = fit.imaging_errors(errors)
    free = set(fitted_imaging)
    chi2 = errors.chi2_reduced
    result = header(task.settings) | {
        "warnings": task.warnings + task.imaging.warnings + errors.remarks + noise_remarks(noise),
        "grid": problem.describe_grid(fit.choice),
        "noise": describe_noise(noise),
        "fit": figures_of_merit(simulation, image) | {"chi2_reduced": chi2},
        "parameters": parameter_table(fit.result_vector(), free, std_noise, std),
        "correlations": errors.correlations,
        "columns": columns_table(
            task.specimen.columns,
            fit.layout,
            fit.point,
            errors.std_noise,
            errors.scale,
            remove_mean=fit.mode != "fixed",
        ),
        "cost": journal.cost(),
    }
    if fit.bounds.camera:
        given = task.settings.data.mtf_scale
        result["mtf_scale"] = mtf_scale_table(
            fit.layout, given, fit.point, errors.std_noise, errors.scale
        )
    arrays = {
        "experiment": image.astype(np.float32),
        "simulation": simulation.astype(np.float32),
        "difference": residual.astype(np.float32),
    }
    structure = model_structure(task.specimen.columns, fit.layout, fit.point)
    comment = "mean structure, one repeating cell"
    folder.write_structures({"structure": (task.specimen.columns.size_nm, structure, comment)})
    return result, arrays


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
        bounds = bounds_of(self.layout, task.space)
        bounds = bounds.with_shifts(settings.structure.position_std_nm)
        bounds = bounds.with_occupancies(given, settings.structure.occupancy_std)
        for name in (*SHIFT, "C1"):
            # the wave passes whole cells, so these refer to a plane behind the exit face
            offset = self.point[INDEX[name]] - vector[INDEX[name]]
            bounds = bounds.with_offset(name, float(offset))
        if self.mode != "fixed":  # which says that the camera is known too
            bounds = bounds.with_mtf_stretch(task.specimen.mtf_scale_std)
        structure = bounds.of(self.layout.shifts) + bounds.of(self.layout.occupancies)
        structure += list(bounds.camera)
        imaging = bounds.indices(bounds.imaging)
        self.bounds = bounds = bounds.with_vector(self.point)
        dtype = self.simulator.simulator.dtype
        self.structure = bounds.coordinates(structure, dtype)
        self.imaging = bounds.coordinates(imaging, dtype)
        self.everything = bounds.coordinates(imaging + structure, dtype)
        self.noise = GUESSED_NOISE
        self.model = make_region_model(self.simulator, self.noise)

    def solve(self, noise: NoiseModel | None) -> None:
        """Fit, choose the weights of the pixels by what is missed, and fit again."""
        image = self.task.experiment.image
        # the weights against the priors depend on the misfit, which shrinks as the fit proceeds
        for number in range(3):
            residual = self.model.images(self.point[None])[0] - image
            weights = pixel_weights(noise, residual[None], image[None])
            if number and same_weights(weights, self.noise):
                break
            self.noise = weights
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
        scale = error_scale(self.noise, self.task.experiment.noise, image, residual, chi2)
        if not self.noise.is_noise:
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
