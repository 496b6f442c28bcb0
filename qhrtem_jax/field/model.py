"""What a field is fitted with: what stays the same, and where the fit stands.

A region is no periodic cell: its neighbours reach into its pixels, and all regions share the
imaging parameters but for a few. `FieldModel` holds what the fit does not change; `JointState`, all
that it does; steps are functions from one state to the next.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.field.layout import FieldLayout, field_layout
from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.matching.likelihood import Likelihood, make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.physics.field import FieldSimulator
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.integers import UNLIKELY, Constraints
from qhrtem_jax.refine.pooled import ArrowSystem
from qhrtem_jax.refine.regions import RegionModel
from qhrtem_jax.refine.unknown_cells import UnknownCells
from qhrtem_jax.regions.model import RegionsModel, fitter, with_targets
from qhrtem_jax.regions.problem import RegionsProblem

OWN = ("absorption", "A0_x", "A0_y")
"""Imaging parameters that each region has for itself, also once the heights are settled."""


@dataclasses.dataclass(frozen=True)
class OwnAndShared:
    """Free coordinates: `own` ones that each region has for itself, then those that all share."""

    coordinates: Coordinates
    own: int


@dataclasses.dataclass(frozen=True)
class FieldModel:
    """What does not change while a field is fitted.

    `loose`: what is free before the heights of the regions are settled, when each has its own C1;
    `joint`: after it, when that is shared; `nuisances`: `joint` without the numbers of atoms.
    """

    regions: RegionsModel
    cells: FieldLayout
    drift_nm: Float[np.ndarray, "regions 2"]  # of the lattice against the pixels of each region
    constraints: Constraints
    loose: OwnAndShared
    joint: OwnAndShared
    nuisances: OwnAndShared

    @property
    def problem(self) -> RegionsProblem:
        return self.regions.problem

    @property
    def columns(self) -> Columns:
        return self.regions.columns

    @property
    def sites(self) -> Sites:
        return self.regions.sites

    @property
    def layout(self) -> Layout:
        return self.regions.layout

    @property
    def most(self) -> Int[np.ndarray, " chains"]:
        """Largest numbers of atoms."""
        return self.regions.most

    @property
    def targets(self) -> Float[np.ndarray, "regions rows cols"]:
        return self.regions.targets

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """First pixel (row, col) of each region."""
        return tuple(region.origin for region in self.problem.regions)

    @property
    def given_noise(self) -> NoiseModel | None:
        return self.problem.field.noise

    @property
    def per_cell(self) -> Int[np.ndarray, " chains"]:
        """Atoms of each chain in one repeating unit."""
        return self.columns.atoms_per_cell()

    @property
    def unit_nm(self) -> float:
        """Repeating unit along the beam."""
        return self.columns.size_nm[2]

    @property
    def region_units(self) -> int:
        """Repeating units in the stack of a region."""
        return self.problem.settings.specimen.max_cells

    @property
    def dtype(self) -> jnp.dtype:
        """That of simulations."""
        return self.regions.simulator.dtype


@dataclasses.dataclass(frozen=True)
class Stack:
    """The stack of slices of the whole field, which all regions stand in."""

    heights: Int[np.ndarray, " regions"]  # first repeating unit of each region's stack
    begins: Int[np.ndarray, "regions chains"]  # ranks of the first atoms in that
    units: int  # repeating units from end to end
    simulator: FieldSimulator

    def mostly(self, per_cell: Int[np.ndarray, " chains"]) -> Int[np.ndarray, " regions"]:
        """By how many repeating units most chains of each region begin deeper than the region."""
        return np.median(self.begins // per_cell, axis=1).astype(int)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The noise that weighs the pixels, the least squares of regions under it, and the likelihood
    of the whole image."""

    noise: NoiseModel
    fit: RegionModel
    whole: Likelihood


@dataclasses.dataclass(frozen=True)
class JointState:
    """Where the joint fit of a field stands. Arrays are never written into."""

    points: Float[np.ndarray, "regions point"]
    stack: Stack
    weights: Weights
    first: Float[
        np.ndarray, "unknown chains"
    ]  # numbers that unknown cells were first taken to have
    unknown: UnknownCells  # how they differ from that
    damping: float  # of the next step over the whole field
    settled: bool = False  # whether the heights are: all regions share one C1 then
    system: ArrowSystem | None = None  # normal equations of the regions at these points
    seen: list[tuple[FieldModel, Float[np.ndarray, "field_rows field_cols"]]] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )  # its image, once that is simulated

    @property
    def normal_equations(self) -> ArrowSystem:
        """`system`, once there is one."""
        if self.system is None:
            raise ValueError("the regions of this state were not pooled yet")
        return self.system


def field_model(regions: RegionsModel) -> FieldModel:
    """The field that `regions` are parts of."""
    problem, bounds = regions.problem, regions.bounds
    counts, dtype = regions.layout.counts, regions.simulator.dtype
    positions = bounds.of(regions.layout.shifts) if problem.settings.reconstruct.positions else []
    structure = bounds.of(counts) + positions

    def free(first: tuple[str, ...], last: list[str], numbers: bool = True) -> OwnAndShared:
        common = [n for n in bounds.imaging if n not in (*OWN, "C1")] + last
        inside = structure if numbers else positions
        own = bounds.indices(bounds.free_names(first)) + inside
        shared = bounds.indices(common) + list(bounds.camera)
        return OwnAndShared(bounds.coordinates(own + shared, dtype), len(own))

    c1 = bounds.free_names(("C1",))
    frame, columns = problem.field.frame, problem.specimen.columns
    return FieldModel(
        regions,
        field_layout(problem.field, problem.regions, columns),
        np.array([lattice_drift(r.origin, columns, frame) for r in problem.regions]),
        dataclasses.replace(regions.constraints, unlikely=UNLIKELY),
        free((OWN[0], "C1", *OWN[1:]), []),
        free(OWN, c1),
        free(OWN, c1, numbers=False),
    )


def weights(model: FieldModel, noise: NoiseModel) -> Weights:
    """Pixels weighed by `noise`."""
    image = model.problem.field.image
    rows, cols = image.shape
    whole = make_likelihood(noise, (rows, cols), model.dtype, image)
    return Weights(noise, fitter(model.regions, noise), whole)


def with_image(model: FieldModel, image: Float[np.ndarray, "rows cols"]) -> FieldModel:
    """The same field in another image."""
    rows, cols = model.targets.shape[1:]
    targets = np.array([image[r : r + rows, c : c + cols] for r, c in model.corners], dtype=float)
    regions = with_targets(model.regions, targets)
    field = dataclasses.replace(model.problem.field, image=image)
    problem = dataclasses.replace(regions.problem, field=field)
    return dataclasses.replace(model, regions=dataclasses.replace(regions, problem=problem))


def free_coordinates(model: FieldModel, state: JointState) -> OwnAndShared:
    """What is free at present."""
    return model.joint if state.settled else model.loose


def whole_numbers(model: FieldModel, state: JointState) -> Float[np.ndarray, "regions chains"]:
    """Numbers of atoms, rounded."""
    return np.rint(state.points[:, model.layout.counts])
