"""The fit of all regions with the imaging parameters given: start, relax, count."""

import logging
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.inputs.columns import bounds_of
from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import GUESSED_NOISE, NoiseModel
from qhrtem_jax.matching.objective import Objective, make_objective
from qhrtem_jax.matching.weights import pixel_weights, same_weights
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import StructuredSimulator, moved_plane
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.counting import Counted, search
from qhrtem_jax.refine.integers import REJECTED, Constraints, fix_surest
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.regions import make_region_model
from qhrtem_jax.regions.search import bayesian_starts
from qhrtem_jax.reporting.column_tables import region_structure

if TYPE_CHECKING:
    from qhrtem_jax.regions.reconstruct import ReconstructProblem

log = logging.getLogger(__name__)

LOCAL = ("C1", "absorption", "A0_x", "A0_y")
"""Imaging parameters that each region has for itself."""

OFF_INTEGER = 0.3
"""Relaxed fits start so far above whole numbers, where the image has a kink."""

C1_RANGE_NM = 15.0
C1_REACH_NM = 3.0
SHIFT_REACH_NM = 0.1
"""Shifts beyond this may be those of another column that looks alike."""

THICKNESS_STEP = 2


class RegionFit:
    """Points of all regions, and the steps that improve them.

    Points refer to the plane behind the whole stack of `max_cells`; results to each region's exit
    plane.
    """

    def __init__(self, task: "ReconstructProblem", vector: np.ndarray, journal: Journal) -> None:
        settings, columns, layout = task.settings, task.specimen.columns, task.layout
        self.task, self.vector, self.journal, self.layout = task, vector, journal, layout
        self.columns, self.sites, self.targets = columns, task.sites, task.targets
        self.most = columns.most_atoms(settings.specimen.max_cells)
        rule = settings.reconstruct.surface_rule
        self.constraints = Constraints(
            task.sites,
            self.most,
            REJECTED if rule else 0.0,
            columns.atoms_per_cell(),
            settings.reconstruct.roughness_cells,
        )
        self.choice = task.specimen.grids(task.frame, vector, task.sites.stack)
        local = len(LOCAL) + layout.chains + 2 * layout.columns + len(NAMES)
        self.simulator: StructuredSimulator = task.specimen.simulator(
            task.sites, task.frame, self.choice, local
        )
        bounds = bounds_of(layout, task.space).with_vector(vector)
        bounds = bounds.without_priors("C1", "A0_x", "A0_y")
        bounds = bounds.with_reach("C1", C1_RANGE_NM, float(vector[INDEX["C1"]]))
        for name in ("A0_x", "A0_y"):
            reach = max(columns.size_nm[:2])
            bounds = bounds.with_reach(name, reach, float(vector[INDEX[name]]))
        bounds = bounds.with_counts(self.most)
        bounds = bounds.with_shifts(settings.reconstruct.position_std_nm)
        self.bounds = bounds = bounds.with_mtf_stretch(task.specimen.mtf_scale_std)
        positions = bounds.of(layout.shifts) if settings.reconstruct.positions else []
        nuisances = bounds.indices(bounds.free_names(LOCAL)) + positions + list(bounds.camera)
        dtype = self.simulator.simulator.dtype
        self.nuisances: Coordinates = bounds.coordinates(nuisances, dtype)
        self.relaxed: Coordinates = bounds.coordinates(nuisances + bounds.of(layout.counts), dtype)
        self.noise = task.field.noise or GUESSED_NOISE
        self.model = make_region_model(self.simulator, self.noise)
        self.points = np.zeros((len(task.regions), layout.size))
        # the given A0 belongs to the regions that were averaged to find it
        self.reference_drift = np.mean(
            [np.zeros(2)]
            if not task.averaged
            else [lattice_drift(o, task.specimen, task.field.frame) for o in task.averaged],
            axis=0,
        )
        self.relaxed_points = self.points
        self.counted: Counted | None = None
        self.remarks: list[str] = []

    def start(self) -> None:
        """Starts: the best of plane-parallel slabs over thickness and C1, then, by option,
        Bayesian optimization of the numbers, C1 and absorption around it."""
        columns, layout = self.columns, self.layout
        slice_nm, stack = columns.slice_nm, self.sites.stack
        thickness = max(1.0, float(self.vector[INDEX["thickness"]]))
        # the given C1 belongs to the exit plane of a slab of the given thickness
        slab = self._filled(round(min(thickness, stack)))
        surplus = stack - int(self.sites.extent(np.floor(slab))[1])
        base = moved_plane(self.vector, surplus * slice_nm)
        steps = np.arange(max(2, columns.slices // 2), stack + 1, THICKNESS_STEP)
        heights = np.arange(-C1_REACH_NM, C1_REACH_NM + 1e-9, 2.0 * slice_nm)
        errors = np.full((len(self.points), len(steps), len(heights)), np.inf)
        slabs = np.array(
            [
                layout.point(
                    base,
                    np.zeros((layout.columns, 2)),
                    self._filled(int(n)),
                    np.array([c.occupancy for c in columns.chains]),
                )
                for n in steps
            ]
        )
        shift = [INDEX["A0_x"], INDEX["A0_y"]]
        tick = self.journal.tick("starts")
        for k, region in enumerate(self.task.regions):
            tick(k, len(self.points))
            drift = lattice_drift(region.origin, self.task.specimen, self.task.field.frame)
            moved = slabs.copy()
            moved[:, shift] += drift - self.reference_drift
            centre = moved[0, shift]
            objective = make_objective(
                self.simulator.simulator,
                jnp.asarray(self.targets[k]),
                thickness_range=(1, 1),
                shift_range=(
                    (centre[0] - SHIFT_REACH_NM, centre[0] + SHIFT_REACH_NM),
                    (centre[1] - SHIFT_REACH_NM, centre[1] + SHIFT_REACH_NM),
                ),
            )
            dtype = self.simulator.simulator.dtype
            found = _scan(
                self.simulator, objective, jnp.asarray(moved, dtype), jnp.asarray(heights, dtype)
            )
            errors[k], shifts = (
                np.nan_to_num(np.asarray(found[0]), nan=np.inf),
                np.asarray(found[1]),
            )
            n, h = np.unravel_index(int(np.argmin(errors[k])), errors[k].shape)
            self.points[k] = moved[n]
            self.points[k, INDEX["C1"]] += heights[h]
            self.points[k, shift] = shifts[n, h]
        self.journal.evaluations += len(self.points) * len(steps)
        self.journal.note("starts", float(np.mean(np.min(errors, axis=(1, 2)))))
        settings = self.task.settings
        if settings.optimizer.name != "lm" and settings.reconstruct.max_evaluations > 0:
            bayesian_starts(self)

    def _filled(self, slices: int) -> np.ndarray:
        """Numbers of a slab of `slices` slices."""
        return np.minimum(self.columns.numbers_of_slices(slices), self.most)

    def relax(self) -> None:
        """Least squares with relaxed numbers, pixels weighed by what is missed."""
        counts = self.points[:, self.layout.counts]
        self.points[:, self.layout.counts] = np.minimum(
            counts + OFF_INTEGER, self.most - 0.5 * OFF_INTEGER
        )
        self._least_squares(self.relaxed, 30)
        for _ in range(2):
            images = self.model.images(self.points)
            residuals = images - self.targets
            self.journal.note("relaxed numbers", float(np.mean(residuals**2)))
            fine = np.all(np.isfinite(images), axis=(1, 2))
            if not fine.any():
                raise NonFiniteError("no region gave a finite image")
            noise = pixel_weights(self.task.field.noise, residuals[fine], images[fine])
            if same_weights(noise, self.noise):
                break
            self.set_weights(noise)
            self._least_squares(self.relaxed, 20)
        self.relaxed_points = self.points.copy()

    def set_weights(self, noise: NoiseModel) -> None:
        """Weigh pixels by `noise`, which is the measured one or stands for the misfit."""
        self.noise = noise
        self.model = make_region_model(self.simulator, noise)

    def _least_squares(self, coordinates: Coordinates, iterations: int) -> None:
        method = LevenbergMarquardt(coordinates.prior_mean, coordinates.prior_std, iterations, 1e-4)
        tick = self.journal.tick("least squares")
        points, _, calls = self.model.fit(coordinates, self.points, self.targets, method, tick)
        self.points = points
        self.journal.gradient_evaluations += int(calls.sum())
        self.journal.evaluations += int(calls.sum())

    def count(self) -> None:
        """Whole numbers: the surest first, then the search that certifies them."""
        layout = self.layout
        tick = self.journal.tick("counting")
        lin = self.model.linearise(self.relaxed, self.points, self.targets, tick)
        start = np.nan_to_num(self.points[:, layout.counts], nan=1.0)
        width = np.asarray(self.relaxed.width, float)
        precision = np.diag(1.0 / np.square(np.asarray(self.relaxed.prior_std, float)))
        at = slice(len(self.nuisances.free), len(self.relaxed.free))
        scale = width[at]
        for k in range(len(self.points)):
            if not np.all(np.isfinite(lin.hessian[k])):
                self.points[k, layout.counts] = np.rint(start[k])
                continue
            covariance = np.linalg.pinv(lin.hessian[k] + precision, hermitian=True)[at, at]
            numbers = fix_surest(
                self.points[k, layout.counts], covariance * np.outer(scale, scale), self.most
            )
            self.points[k, layout.counts] = self.constraints.repair(numbers)
        self._least_squares(self.nuisances, 10)

        def report(done: int) -> None:
            log.debug("%d of %d regions certified", done, len(self.points))
            self.journal.note(f"counting, {done} of {len(self.points)} regions done")

        self.counted = search(
            self.model,
            self.columns,
            self.constraints,
            self.nuisances,
            self.points,
            self.targets,
            passes=self.task.settings.reconstruct.passes,
            report=report,
            tick=tick,
        )
        self.points = self.counted.points
        self.journal.evaluations += sum(len(s) for s in self.counted.states)
        images = self.model.images(self.points)
        self.journal.note("counted", float(np.mean((images - self.targets) ** 2)))
        for k, region in enumerate(self.task.regions):
            if not np.all(np.isfinite(images[k])):
                self.remarks.append(f"{region.name}: the fit failed, its numbers mean nothing")
            elif not self.counted.certified[k]:
                self.remarks.append(
                    f"{region.name}: a single or paired change of numbers may still improve it"
                )
        if not self.noise.is_noise:
            self.remarks.append(
                "the misfit exceeds the noise: it weighs the pixels, and probabilities and errors "
                "follow from it"
            )

    def exit_vector(self, k: int) -> np.ndarray:
        """Imaging parameters of a region at its own exit plane, the mean shift in A0."""
        point = self.points[k]
        first, last = self.sites.extent(np.rint(point[self.layout.counts]))
        surplus = (self.sites.stack - int(last)) * self.columns.slice_nm
        vector = moved_plane(point[self.layout.imaging], -surplus)
        vector[INDEX["thickness"]] = int(last) - int(first)
        shift = point[self.layout.shifts].reshape(-1, 2).mean(axis=0)
        vector[[INDEX["A0_x"], INDEX["A0_y"]]] += shift
        return vector

    def write_structures(self, folder: RunFolder) -> None:
        """structures/ROI*.cel, .cif, .xyz."""
        a, b, c = self.columns.size_nm
        cells = self.sites.stack // self.columns.slices
        models = {}
        for k, region in enumerate(self.task.regions):
            atoms = region_structure(self.columns, self.sites, self.layout, self.points[k])
            if atoms.symbols:
                models[region.name] = ((a, b, c * cells), atoms, region.name)
        folder.write_structures(models)


@eqx.filter_jit
def _scan(
    simulator: StructuredSimulator, objective: Objective, slabs: Array, heights: Array
) -> tuple[Array, Array]:
    """Mean squared errors (n, heights) of slabs (n, point) moved along the beam by `heights`, and
    the shifts (n, heights, 2) that fit them best."""
    layout = simulator.layout

    def slab(point: Array) -> tuple[Array, Array]:
        wave = simulator.wave(point)

        def one(height: Array) -> tuple[Array, Array]:
            vector = point[layout.imaging].at[INDEX["C1"]].add(height)
            vector = vector.at[jnp.array([INDEX["A0_x"], INDEX["A0_y"]])].set(0.0)
            parameters = simulator.simulator.typed(vector)
            spectrum = simulator.simulator.spectrum(wave, parameters)[None]
            shift = objective.best_shifts(spectrum, parameters.image_spread_nm)
            image = simulator.simulator.camera(
                (spectrum * objective.ramp(shift))[0], parameters.image_spread_nm
            )
            return jnp.mean((image - objective.experiment) ** 2), shift[0]

        return jax.lax.map(one, heights)

    return jax.lax.map(slab, slabs)
