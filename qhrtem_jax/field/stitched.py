"""Regions stitched into one crystal by their C1, and its image (the paper's section 4.3).

A region that ends higher up is farther from focus: the differences of C1 are heights. They are
rounded, so that planes of atoms go on from one region to the next, or not.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.field.model import FieldModel, JointState, whole_numbers
from qhrtem_jax.field.simulate import C1, ends_nm, global_imaging, lattice_offsets
from qhrtem_jax.inputs.instrument import simulated_as
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator, make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal
from qhrtem_jax.physics.structured import moved_plane
from qhrtem_jax.refine.whole_field import SHIFT

PARTS = 4
"""Of a slice, into which atoms are sorted where heights are not rounded."""


@dataclasses.dataclass(frozen=True)
class Stitched:
    """The whole field as one crystal, whose cells beyond the regions are like the nearest of these.

    It ends at the deepest exit plane of the regions, to which `vector` refers: imaging parameters
    without an image shift, with one absorption; the camera is as given. `end_nm`: distance from the
    end of each region's stack to that of the deepest; `shifts_slices`: from its exit plane to the
    deepest one.
    """

    crystal: Crystal
    vector: Float[np.ndarray, " parameters"]
    end_nm: Float[np.ndarray, " regions"]
    shifts_slices: Float[np.ndarray, " regions"]


def stitch(model: FieldModel, state: JointState, rounding: str, global_c1: str) -> Stitched:
    """The regions of a state at the heights that their C1 say.

    **Arguments:** `rounding`, of heights: to whole repeating units (`cell`), to whole slices
    (`slice`), or `none`; `global_c1`, from which they are counted: the circular `mean` over what
    they are rounded to, or the `minimum` of the regions (the same where nothing is rounded).
    """
    columns, points = model.columns, state.points
    slice_nm, stack = columns.slice_nm, model.sites.stack
    last = model.sites.extent(whole_numbers(model, state), state.stack.begins)[1]
    surplus_nm = (stack - last) * slice_nm  # from the exit of each region to the end of its stack
    reference = None
    if global_c1 == "minimum":
        reference = float(points[np.argmin(points[:, C1] + surplus_nm), C1])
    step_nm = {"cell": model.unit_nm, "slice": slice_nm, "none": 0.0}[rounding]
    c1, end_nm = ends_nm(points[:, C1], step_nm, reference)
    exit_nm = end_nm + surplus_nm
    vector = moved_plane(global_imaging(model, state, end_nm), -exit_nm.min())
    vector[C1] = c1 + exit_nm.min()
    parts = PARTS if rounding == "none" else 1
    depth_nm = stack * slice_nm + end_nm.max() - exit_nm.min()  # down to the deepest exit
    slices = int(np.ceil(depth_nm / slice_nm - 1e-6))
    start_nm = slices * slice_nm - (stack * slice_nm + end_nm - exit_nm.min())
    shift_nm = lattice_offsets(model, state, end_nm), vector[SHIFT]
    atoms = _atoms(model, state, shift_nm, start_nm, slices, parts)
    rows, cols = model.cells.shape
    size_nm = cols * columns.size_nm[0], rows * columns.size_nm[1], slices * slice_nm
    vector[SHIFT] = 0.0
    vector[INDEX["thickness"]] = parts * slices
    return Stitched(
        Crystal(size_nm, atoms, parts * slices),
        vector,
        end_nm,
        (exit_nm - exit_nm.min()) / slice_nm,
    )


def _atoms(
    model: FieldModel,
    state: JointState,
    shift_nm: tuple[Float[np.ndarray, "regions 2"], Float[np.ndarray, " 2"]],
    start_nm: Float[np.ndarray, " regions"],
    slices: int,
    parts: int,
) -> Atoms:
    """Atoms of all cells, in the middle of the slices that they belong to; `shift_nm`: of each
    region against the lattice, and of all; `start_nm`: depth at which the stack of each region
    starts."""
    columns, sites, cells, layout = model.columns, model.sites, model.cells, model.layout
    size_nm = np.array(columns.size_nm[:2])
    offsets, everywhere = shift_nm
    own = state.points[:, layout.shifts].reshape(-1, layout.columns, 2) + offsets[:, None]
    everything = [(cell, k, own[k]) for k, cell in enumerate(cells.region_cells)]
    everything += [
        (cell, k, np.zeros_like(own[k]))
        for cell, k in zip(cells.unknown_cells, cells.nearest_region, strict=True)
    ]
    chains = np.array([c.column for c in columns.chains])[sites.chain]
    standard = np.array([c.occupancy for c in columns.chains])
    numbers, found = whole_numbers(model, state), []
    level = state.stack.mostly(model.per_cell)
    for number, (cell, k, shifts) in enumerate(everything):
        begins = state.stack.begins[k] if number < len(own) else level[k] * model.per_cell
        taken = np.flatnonzero(sites.occupied(numbers[k], begins))
        row, col = divmod(int(cell), cells.shape[1])
        xy = columns.xy_nm[chains[taken]] + shifts[chains[taken]] + everywhere
        xy = (xy / size_nm + (col, row)) / cells.shape[::-1]
        depth = start_nm[k] / columns.slice_nm + sites.slice[taken]
        z = (np.rint(parts * depth) + 0.5) / (parts * slices)
        chain = sites.chain[taken]
        known = state.points[k, layout.occupancies] if number < len(own) else standard
        found.append((chain, np.column_stack([xy, z]), known[chain]))
    chain, positions, occupancy = (np.concatenate(part) for part in zip(*found, strict=True))
    return Atoms(
        tuple(columns.chains[c].symbol for c in chain),
        np.mod(positions, 1.0),
        np.clip(occupancy, 0.0, 1.0),
        np.array([columns.chains[c].b_nm2 for c in chain]),
    )


def stitched_image(
    model: FieldModel, stitched: Stitched, journal: Journal
) -> Float[np.ndarray, "field_rows field_cols"]:
    """Simulation of the whole field with one C1 and one absorption."""
    journal.count(evaluations=1)
    problem, choice, shape = model.problem, model.regions.choice, model.cells.shape
    simulator = make_simulator(
        stitched.crystal,
        problem.specimen.microscope,
        problem.field.frame,
        slices=stitched.crystal.slices,
        thermal_absorption=problem.settings.specimen.thermal_absorption,
        **simulated_as(problem.settings, choice, shape),
    )
    vector = jnp.asarray(stitched.vector, simulator.dtype)
    return np.asarray(_image(simulator, vector), float)


@eqx.filter_jit
def _image(
    simulator: Simulator, vector: Float[Array, " parameters"]
) -> Float[Array, "field_rows field_cols"]:
    parameters = simulator.typed(vector)
    phases = simulator.phases * (1.0 + 1j * parameters.absorption)
    wave = simulator.propagation.through(phases, parameters.tilt_rad)
    return simulator.formation(wave, parameters.formation)
