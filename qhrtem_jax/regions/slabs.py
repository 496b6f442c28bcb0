"""First guess of every region: the plane-parallel slab that explains it best."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.criteria.mean_square import mean_squared_error
from qhrtem_jax.matching.image_shift import ImageShift, make_image_shift
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import StructuredSimulator, moved_plane
from qhrtem_jax.regions.model import RegionsModel

C1_REACH_NM = 3.0
SHIFT_REACH_NM = 0.1
"""Shifts beyond this may be those of another column that looks alike."""

THICKNESS_STEP = 2

SHIFT = [INDEX["A0_x"], INDEX["A0_y"]]


def best_slabs(model: RegionsModel, journal: Journal) -> Float[np.ndarray, "regions point"]:
    """Point of the best slab of every region, over thickness, C1 and shift."""
    problem, dtype = model.problem, model.simulator.dtype
    slabs = _slabs(model)
    heights = np.arange(-C1_REACH_NM, C1_REACH_NM + 1e-9, 2.0 * model.columns.slice_nm)
    points = np.zeros((len(problem.regions), model.layout.size))
    least = np.full(len(points), np.inf)
    tick = journal.tick("starts")
    for k, region in enumerate(problem.regions):
        tick(k, len(points))
        drift = lattice_drift(region.origin, model.columns, problem.field.frame)
        moved = slabs.copy()
        moved[:, SHIFT] += drift - model.reference_drift
        x, y = moved[0, SHIFT]
        shift = make_image_shift(
            model.simulator.formation,
            jnp.asarray(model.targets[k], dtype),
            ((x - SHIFT_REACH_NM, x + SHIFT_REACH_NM), (y - SHIFT_REACH_NM, y + SHIFT_REACH_NM)),
        )
        found, shifts = _scan(
            model.simulator, shift, jnp.asarray(moved, dtype), jnp.asarray(heights, dtype)
        )
        errors = np.nan_to_num(np.asarray(found), nan=np.inf)
        n, h = np.unravel_index(int(np.argmin(errors)), errors.shape)
        points[k] = moved[n]
        points[k, INDEX["C1"]] += heights[h]
        points[k, SHIFT] = np.asarray(shifts)[n, h]
        least[k] = errors[n, h]
    journal.count(len(points) * len(slabs))
    journal.note("starts", float(np.mean(least)))
    return points


def _slabs(model: RegionsModel) -> np.ndarray:
    """Points of slabs of growing thickness, (slabs, point)."""
    columns, stack = model.columns, model.sites.stack

    def filled(slices: int) -> np.ndarray:
        return np.minimum(columns.numbers_of_slices(slices), model.most)

    thickness = max(1.0, float(model.vector[INDEX["thickness"]]))
    # the given C1 belongs to the exit plane of a slab of the given thickness
    given = filled(round(min(thickness, stack)))
    surplus = stack - int(model.sites.extent(np.floor(given))[1])
    base = moved_plane(model.vector, surplus * columns.slice_nm)
    occupancies = np.array([chain.occupancy for chain in columns.chains])
    unmoved = np.zeros((model.layout.columns, 2))
    steps = np.arange(max(2, columns.slices // 2), stack + 1, THICKNESS_STEP)
    points = [model.layout.point(base, unmoved, filled(int(n)), occupancies) for n in steps]
    return np.array(points)


@eqx.filter_jit
def _scan(
    simulator: StructuredSimulator, shift: ImageShift, slabs: Array, heights: Array
) -> tuple[Array, Array]:
    """Mean squared errors (n, heights) of slabs (n, point) moved along the beam by `heights`, and
    the shifts (n, heights, 2) that fit them best."""
    formation = simulator.formation

    def slab(point: Array) -> tuple[Array, Array]:
        wave = simulator.wave(point)

        def one(height: Array) -> tuple[Array, Array]:
            moved = point.at[INDEX["C1"]].add(height).at[jnp.array(SHIFT)].set(0.0)
            parameters = simulator.typed(moved).formation
            spectrum = formation.spectrum(wave, parameters)[None]
            best = shift.best(formation.camera, spectrum, parameters)
            image = formation.camera((spectrum * shift.ramp(best))[0], parameters)
            return mean_squared_error(image, shift.experiment), best[0]

        return jax.lax.map(one, heights)

    return jax.lax.map(slab, slabs)
