"""Joint refinement of a whole field: no seams between regions.

A region is no periodic cell: its neighbours reach into its pixels. Each sweep simulates the whole
field once and adds, to every region's periodic image, the difference that its neighbours make
(deferred correction); least squares and counting then go on region by region, with the imaging
parameters shared by all. Where that does not reach the minimum, steps over the whole field follow
(`field_steps`).
"""

import dataclasses
import logging

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.field.layout import FieldLayout, field_layout
from qhrtem_jax.field.steps import DAMPING, polish
from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.likelihood import make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.weights import pixel_weights
from qhrtem_jax.physics.field import FieldSimulator, FieldState, make_field
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import moved_plane
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.integers import UNLIKELY, fix_surest
from qhrtem_jax.refine.pooled import Pooled, pooled_fit
from qhrtem_jax.refine.unknown_cells import UnknownCells, fit_unknown
from qhrtem_jax.refine.whole_field import Placement, WholeField
from qhrtem_jax.regions.model import RegionsModel, RegionState, fitter

log = logging.getLogger(__name__)

C1 = INDEX["C1"]

MOST_SWEEPS, CONVERGED = 10, 0.98
"""Sweeps with relaxed numbers end when the misfit falls by less than 2 %."""

FIRST_STEPS, LATER_STEPS = 20, 6
"""Gradient steps of the unknown cells."""


class FieldFit:
    """The field made of the regions of `state`, and the steps that refine it.

    `heights`: first repeating unit of each region's stack in the field's, in whole units.
    """

    def __init__(self, fit: RegionsModel, state: RegionState, journal: Journal) -> None:
        self.fit, self.regions, self.task = fit, state, fit.problem
        self.columns, self.sites, self.layout = fit.columns, fit.sites, fit.layout
        self.journal = journal
        task = self.task
        self.cells: FieldLayout = field_layout(task)
        self.targets = fit.targets
        self.points = state.points.copy()
        self.drift = np.array(
            [lattice_drift(r.origin, task.specimen, task.field.frame) for r in task.regions]
        )
        rule = task.settings.reconstruct.surface_rule
        self.constraints = dataclasses.replace(fit.constraints, isolated=UNLIKELY if rule else 0.0)
        self.per_cell = self.columns.atoms_per_cell()
        self.unit_nm = self.columns.size_nm[2]
        self.max_cells = task.settings.specimen.max_cells
        self.noise = state.noise
        self.model = fitter(fit, self.noise)
        self.first = np.zeros((len(self.cells.unknown_cells), self.layout.chains))
        self.unknown = self._no_change()
        self.settled = False
        self.damping = DAMPING  # of the steps over the whole field
        self.field: FieldSimulator | None = None
        self.stack_cells = 0
        self.heights = np.zeros(len(self.points), dtype=int)
        self.pooled: Pooled | None = None
        self.find_heights()

    def _no_change(self) -> UnknownCells:
        count = len(self.cells.unknown_cells)
        dtype = self.fit.simulator.simulator.dtype
        return UnknownCells(
            jnp.zeros((count, self.layout.chains), dtype),
            jnp.zeros((count, self.layout.columns, 2), dtype),
        )

    # Heights

    def find_heights(self) -> None:
        """Heights from the C1 of the regions, which differ by whole repeating units: the rest is
        the global C1, a circular mean. Regions that reach deeper have smaller C1."""
        c1 = self.points[:, C1]
        phase = np.angle(np.mean(np.exp(2j * np.pi * c1 / self.unit_nm)))
        units = np.rint((c1 - phase / (2.0 * np.pi) * self.unit_nm) / self.unit_nm).astype(int)
        self.heights = units.max() - units
        stack = int(self.heights.max()) + self.max_cells
        if stack != self.stack_cells:
            self.stack_cells = stack
            task, choice = self.task, self.fit.choice
            self.field = make_field(
                self.columns,
                self.cells.shape,
                stack,
                task.specimen.microscope,
                task.field.frame,
                grid_shape=choice.grid,
                image_shape=choice.image,
                scattering=task.settings.specimen.scattering,
                precision=task.settings.precision,
                source=choice.source,
            )

    def above_plane_nm(self) -> np.ndarray:
        """Distance from the end of each region's stack to that of the field's."""
        return (self.stack_cells - self.max_cells - self.heights) * self.unit_nm

    def placement(self) -> Placement:
        """Where the regions and the unknown cells are in the field."""
        counts, step = self.points[:, self.layout.counts], 1e-4
        some = np.maximum(counts, 2.0 * step)  # an empty chain has no start, one about to grow has
        starts = self.sites.starts(some)
        ahead = np.where(np.mod(some, 1.0) < 0.5, step, -step)
        slope = (self.sites.starts(some + ahead) - starts) / ahead
        dtype = self.fit.simulator.simulator.dtype

        def array(values: np.ndarray) -> jnp.ndarray:
            return jnp.asarray(values, dtype)

        return Placement(
            self.layout,
            self.cells.shape[0] * self.cells.shape[1],
            jnp.asarray(self.cells.region_cells),
            jnp.asarray(self.cells.unknown_cells),
            jnp.asarray(self.cells.nearest_region),
            array(self.above_plane_nm()),
            array(self.drift),
            array(counts),
            array(self.heights[:, None] * self.per_cell + starts),
            array(slope),
            array(np.array([c.occupancy for c in self.columns.chains])),
            array(self.first),
            array(self.fit.most),
            self.unknown,
        )

    def global_imaging(self) -> np.ndarray:
        """Imaging parameters at the end of the field's stack."""
        return np.asarray(self.placement().imaging(jnp.asarray(self.points)), float)

    def snapped(self) -> np.ndarray:
        """Points with C1 as the heights demand."""
        points = self.points.copy()
        points[:, C1] = self.global_imaging()[C1] + self.above_plane_nm()
        return points

    # The field

    def state(self, absorption: float | None = None) -> FieldState:
        """The whole field; `absorption`: one value for all cells instead of each region's."""
        dtype = self.fit.simulator.simulator.dtype
        value = None if absorption is None else jnp.asarray(absorption, dtype)
        return self.placement().state(jnp.asarray(self.points, dtype), value)

    def image(self, absorption: float | None = None) -> np.ndarray:
        """Simulation of the whole field."""
        assert self.field is not None
        self.journal.evaluations += 1
        return np.asarray(self.field.image(self.state(absorption)), float)

    def image_with(self, changed: dict[int, np.ndarray]) -> np.ndarray:
        """Simulation of the field with other numbers of atoms (chains,) in some regions."""
        points = self.points
        self.points = points.copy()
        for region, counts in changed.items():
            self.points[region, self.layout.counts] = counts
        image = self.image()
        self.points = points
        return image

    def whole(self) -> WholeField:
        """Whitened residuals of the regions as a function of their points."""
        assert self.field is not None
        dtype = self.fit.simulator.simulator.dtype
        return WholeField(
            self.field,
            self.placement(),
            self.model.likelihood,
            jnp.asarray(self.targets, dtype),
            tuple(region.origin for region in self.task.regions),
        )

    def residuals(self) -> np.ndarray:
        """Whitened residuals (regions, pixels) of the present points in the simulated field."""
        missed = self.model.likelihood.residual(self.cut(self.image()), self.targets)
        return np.asarray(missed, float)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The regions of an image."""
        rows, cols = self.targets.shape[1:]
        return np.array(
            [image[r : r + rows, c : c + cols] for r, c in (x.origin for x in self.task.regions)]
        )

    def forget_unknown(self) -> None:
        """Take the unknown cells to be like the nearest regions."""
        self.first = self.points[self.cells.nearest_region][:, self.layout.counts]
        self.unknown = self._no_change()

    def explain_unknown(self, steps: int) -> None:
        """Fit the cells that no region shows."""
        if not self.cells.unknown_cells.size:
            return
        assert self.field is not None
        image = self.task.field.image
        dtype = self.fit.simulator.simulator.dtype
        self.unknown = fit_unknown(
            self.field,
            make_likelihood(self.noise, image.shape, dtype),
            jnp.asarray(image, dtype),
            self.state(),
            self.cells.unknown_cells,
            jnp.asarray(self.first, dtype),
            self.fit.most,
            self.per_cell,
            self.unknown,
            steps,
        )
        self.journal.gradient_evaluations += steps

    # Sweeps

    def coordinates(self) -> tuple[Coordinates, int]:
        """Own coordinates, then shared ones, and the number of own ones. Once the heights are
        settled, C1 is shared."""
        bounds, layout = self.fit.bounds, self.layout
        own = bounds.free_names(("absorption", *(() if self.settled else ("C1",)), "A0_x", "A0_y"))
        shared = [n for n in bounds.imaging if n not in ("absorption", "A0_x", "A0_y", "C1")]
        shared += ["C1"] if self.settled and "C1" in bounds.imaging else []
        positions = self.task.settings.reconstruct.positions
        structure = bounds.of(layout.counts) + (bounds.of(layout.shifts) if positions else [])
        free = bounds.indices(own) + structure + bounds.indices(shared) + list(bounds.camera)
        dtype = self.fit.simulator.simulator.dtype
        return bounds.coordinates(free, dtype), len(own) + len(structure)

    def nuisances(self) -> tuple[Coordinates, int]:
        """`coordinates` without the numbers of atoms."""
        coordinates, local = self.coordinates()
        numbers = self.count_indices()
        free = [k for k in coordinates.free if k not in numbers]
        dtype = self.fit.simulator.simulator.dtype
        return self.fit.bounds.coordinates(free, dtype), local - len(numbers)

    def deferred_targets(self) -> tuple[np.ndarray, np.ndarray]:
        """(targets less what the neighbours add to each region, residuals of the field)."""
        simulated = self.cut(self.image())
        periodic = self.model.images(self.snapped())
        return self.targets - (simulated - periodic), simulated - self.targets

    def sweep(
        self, phase: str, fixed: np.ndarray, iterations: int = 6, *, weigh: bool = True
    ) -> None:
        """One field simulation, then least squares of everything but the `fixed` numbers
        (regions, chains); `weigh`: choose the weights of the pixels anew."""
        targets, residuals = self.deferred_targets()
        if weigh and self.task.field.noise is None:
            self._weigh(residuals)
        if self.settled:
            self.points = self.snapped()
        self.pooled = self._pool(fixed, targets, iterations)
        self.points = self.pooled.points
        self.journal.note(phase, float(np.mean(residuals**2)))

    def _pool(self, fixed: np.ndarray, targets: np.ndarray, iterations: int) -> Pooled:
        """Least squares of the regions against `targets`; without `iterations`, their normal
        equations at the present points."""
        coordinates, local = self.coordinates()
        active = np.ones((len(self.points), local), dtype=bool)
        numbers = [coordinates.free.index(k) for k in self.count_indices()]
        active[:, numbers] = ~fixed
        pooled = pooled_fit(
            self.model,
            coordinates,
            local,
            self.points,
            targets,
            active,
            iterations=iterations,
            tick=self.journal.tick("least squares"),
        )
        self.journal.gradient_evaluations += pooled.jacobians
        self.journal.evaluations += pooled.jacobians
        return pooled

    def pool(self, fixed: np.ndarray) -> None:
        """Normal equations of the regions at the present points."""
        self.pooled = self._pool(fixed, self.deferred_targets()[0], 0)

    def advance(
        self, phase: str, fixed: np.ndarray, iterations: int = 6, *, weigh: bool = True
    ) -> None:
        """A sweep, kept where it lowers the objective, then steps over the whole field."""
        points, model = self.points, self.model
        before = self.objective()
        self.sweep(phase, fixed, iterations, weigh=weigh)
        objective = self.objective()
        if self.model is model and objective > before:
            self.points, objective = points, before
            self.pool(fixed)
        if polish(self, phase, objective):
            self.pool(fixed)

    def count_indices(self) -> list[int]:
        return list(range(self.layout.counts.start, self.layout.counts.stop))

    def weigh(self) -> bool:
        """Weigh pixels by what is missed at present; whether that changes anything."""
        before = self.model
        self._weigh(self.cut(self.image()) - self.targets)
        return self.model is not before

    def _weigh(self, residuals: np.ndarray) -> None:
        noise = pixel_weights(self.task.field.noise, residuals, self.targets)
        changed = not np.isclose(noise.variance, self.noise.variance, rtol=0.1)
        if noise.is_noise != self.noise.is_noise or changed:
            self.set_weights(noise)

    def set_weights(self, noise: NoiseModel) -> None:
        """Weigh pixels by `noise`."""
        self.noise = noise
        self.model = fitter(self.fit, noise)

    def refine(self) -> np.ndarray:
        """The joint refinement: relaxed numbers and heights, then whole numbers, the surest first.

        Returns which numbers are fixed (regions, chains): all.
        """
        none = np.zeros((len(self.points), self.layout.chains), dtype=bool)
        given = self.task.field.noise
        if given is not None:
            # whatever is missed at first: weights that a misfit lowers would let priors hold what
            # has to move (they return once all numbers are whole)
            self.set_weights(given)
        self.points = self.regions.relaxed_points.copy()
        stretch = self.layout.mtf_stretch
        self.points[:, stretch] = self.points[:, stretch].mean(axis=0)  # one camera
        self.find_heights()
        self.forget_unknown()
        for _ in range(2):
            self.sweep("heights", none)
            self.find_heights()
            self.forget_unknown()
        self.settled = True
        self.points = self.snapped()
        last = np.inf
        for k in range(MOST_SWEEPS):
            self.explain_unknown(FIRST_STEPS if k < 2 else LATER_STEPS)
            self.advance("relaxed field", none)
            objective = self.objective()
            if k >= 2 and objective > CONVERGED * last:
                break
            last = objective
        fixed = none.copy()
        self._fix(fixed)
        self.explain_unknown(LATER_STEPS)
        self.advance("whole numbers", fixed, weigh=False)
        return fixed

    def _fix(self, fixed: np.ndarray) -> None:
        """Make all numbers whole, in each region the surest first; `fixed` and the points
        change."""
        assert self.pooled is not None
        coordinates, _ = self.coordinates()
        own, _ = self.pooled.system.covariances()
        at = np.array([coordinates.free.index(k) for k in self.count_indices()])
        width = np.asarray(coordinates.width, float)[at]
        for k in range(len(self.points)):
            covariance = own[k][np.ix_(at, at)] * np.outer(width, width)
            # what is held at its bound by the image is sure
            held = ~np.isfinite(np.diagonal(covariance))
            covariance = np.where(np.isfinite(covariance), covariance, 0.0)
            covariance[held, held] = 1e-6
            numbers = self.points[k, self.layout.counts]
            self.points[k, self.layout.counts] = fix_surest(numbers, covariance, self.fit.most)
        fixed[:] = True

    def objective(self) -> float:
        """What is minimised: whitened misfit of the regions in the simulation of the field, with
        the priors of their own parameters and, where all are whole, of their numbers."""
        residual = self.residuals()
        coordinates, local = self.coordinates()
        pulls = coordinates.pull(coordinates.to_unit(self.points))
        counts = np.rint(self.points[:, self.layout.counts])
        whole = np.all(np.abs(counts - self.points[:, self.layout.counts]) < 1e-3, axis=1)
        return float(
            np.sum(residual**2)
            + np.sum(pulls[:, :local] ** 2)
            + np.sum(pulls[0, local:] ** 2)
            + np.sum(self.constraints.penalty(counts)[whole])
        )

    def plane_vector(self) -> np.ndarray:
        """Imaging parameters at the lowest exit plane of all regions."""
        last = self.exits().max()
        surplus = self.stack_cells * self.columns.slices - last
        return moved_plane(self.global_imaging(), -surplus * self.columns.slice_nm)

    def exits(self) -> np.ndarray:
        """Slice of the field's stack behind which each region ends."""
        counts = np.rint(self.points[:, self.layout.counts])
        return self.heights * self.columns.slices + self.sites.extent(counts)[1]
