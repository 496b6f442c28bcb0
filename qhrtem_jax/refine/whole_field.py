"""Gauss-Newton steps over a whole field, with what regions do to their neighbours' pixels.

The Jacobian of the field is never formed: conjugate gradients need only its products with vectors,
one simulation of the field forward and one backward each. The normal equations of periodic cells
(`refine.pooled`) precondition them, so that a dozen products suffice.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

from qhrtem_jax.matching.likelihood import Likelihood
from qhrtem_jax.numerics.devices import over_devices
from qhrtem_jax.physics.field import FieldSimulator, FieldState
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.unknown_cells import UnknownCells, put

C1, ABSORPTION = INDEX["C1"], INDEX["absorption"]
SHIFT = np.array([INDEX["A0_x"], INDEX["A0_y"]])
TILT = np.array([INDEX["tilt_x"], INDEX["tilt_y"]])

Parts = tuple[Float[Array, "regions own"], Float[Array, " shared"]]
"""Of the own coordinates of each region, and of the shared ones."""


class Placement(eqx.Module):
    """Puts regions and unknown cells into the cells of a field.

    A region's point refers to the end of its own stack, `above_nm` before that of the field;
    `drift_nm` is that of the lattice against the region's pixels. `starts`: rank of each chain's
    first atom in the field's stack at the numbers `counts`, and its `slope` by them;
    `first_starts`: of unknown cells.
    """

    layout: Layout = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    region_cells: Int[Array, " regions"]
    unknown_cells: Int[Array, " unknown"]
    nearest_region: Int[Array, " unknown"]
    above_nm: Float[Array, " regions"]
    drift_nm: Float[Array, "regions 2"]
    counts: Float[Array, "regions chains"]
    starts: Float[Array, "regions chains"]
    slope: Float[Array, "regions chains"]
    occupancies: Float[Array, " chains"]
    first: Float[Array, "unknown chains"]
    first_starts: Float[Array, "unknown chains"]
    most: Float[Array, " chains"]
    unknown: UnknownCells

    def imaging(self, points: Float[Array, "regions point"]) -> Float[Array, " parameters"]:
        """Imaging parameters at the end of the field's stack."""
        vector = points[0, self.layout.imaging]
        place = points[:, SHIFT] - self.drift_nm + self.above_nm[:, None] * 1e-3 * vector[TILT]
        vector = vector.at[C1].set(jnp.mean(points[:, C1] - self.above_nm))
        vector = vector.at[SHIFT].set(jnp.mean(place, axis=0))
        return vector.at[ABSORPTION].set(jnp.mean(points[:, ABSORPTION]))

    def offsets(self, points: Float[Array, "regions point"]) -> Float[Array, "regions 2"]:
        """Shift of each region as a whole against the ideal lattice, in nm."""
        vector = self.imaging(points)
        tilted = self.above_nm[:, None] * 1e-3 * vector[TILT]
        return points[:, SHIFT] - (vector[SHIFT] + self.drift_nm - tilted)

    def state(self, points: Float[Array, "regions point"]) -> FieldState:
        """The field."""
        layout, chains = self.layout, self.layout.chains
        vector = self.imaging(points)
        counts = points[:, layout.counts]
        starts = self.starts + self.slope * (counts - self.counts)
        shifts = points[:, layout.shifts].reshape(-1, layout.columns, 2)
        shifts = shifts + self.offsets(points)[:, None]
        own = points[:, ABSORPTION]
        empty = jnp.zeros((self.cells, chains), points.dtype)
        known, unknown = self.region_cells, self.unknown_cells
        state = FieldState(
            vector,
            empty.at[known].set(counts),
            empty.at[known].set(starts).at[unknown].set(self.first_starts),
            jnp.zeros((self.cells, layout.columns, 2), points.dtype).at[known].set(shifts),
            jnp.tile(self.occupancies, (self.cells, 1))
            .at[known]
            .set(points[:, layout.occupancies]),
            jnp.full(self.cells, vector[ABSORPTION])
            .at[known]
            .set(own)
            .at[unknown]
            .set(own[self.nearest_region]),
            jnp.mean(points[:, layout.mtf_stretch], axis=0),
        )
        if not self.unknown_cells.size:
            return state
        return put(state, unknown, self.first, self.most, self.unknown)


class WholeField(eqx.Module):
    """Whitened residuals of the regions in the simulation of the field."""

    simulator: FieldSimulator
    placement: Placement
    likelihood: Likelihood  # of a region
    targets: Float[Array, "regions rows cols"]
    corners: tuple[tuple[int, int], ...] = eqx.field(static=True)

    def image(self, points: Float[Array, "regions point"]) -> Float[Array, "field_rows field_cols"]:
        """The whole field."""
        return self.simulator.image(self.placement.state(points))

    def residuals(self, points: Float[Array, "regions point"]) -> Float[Array, "regions pixels"]:
        """What the field misses of each region."""
        return self.likelihood.residual(self.cut(self.image(points)), self.targets)

    def cut(
        self, image: Float[Array, "field_rows field_cols"]
    ) -> Float[Array, "regions rows cols"]:
        """The regions of an image of the field."""
        rows, cols = self.targets.shape[1:]
        return jnp.stack([image[r : r + rows, c : c + cols] for r, c in self.corners])


@eqx.filter_jit
def simulated(
    model: WholeField, points: Float[Array, "regions point"]
) -> Float[Array, "field_rows field_cols"]:
    """`WholeField.image`, as one program."""
    return model.image(points)


@eqx.filter_jit
def whitened(
    likelihood: Likelihood, missed: Float[Array, "regions rows cols"]
) -> Float[Array, "regions residuals"]:
    """Residuals of the regions, from what a simulation misses of them."""
    return likelihood.residual(missed, jnp.zeros_like(missed))


class Changes(eqx.Module):
    """Other numbers of atoms in a field, or the same elsewhere along the beam: those of its
    regions, the ranks of their first atoms and of those of unknown cells, and which chains these
    change (`FieldSimulator.image_with`)."""

    counts: Float[Array, "k regions chains"]
    starts: Float[Array, "k regions chains"]
    first_starts: Float[Array, "k unknown chains"]
    chains: Int[Array, "k some"]


@eqx.filter_jit
def with_changes(
    model: WholeField, points: Float[Array, "regions point"], changes: Changes
) -> Float[Array, "k regions pixels"]:
    """`WholeField.residuals` with other numbers, one after the other on each device."""

    def on_device(common: tuple[WholeField, Array], these: Changes) -> Array:
        field, here = common
        state, placed = field.placement.state(here), field.placement
        passage = field.simulator.passage(state)

        def one(change: Changes) -> Array:
            counts = state.counts.at[placed.region_cells].set(change.counts)
            starts = state.starts.at[placed.region_cells].set(change.starts)
            starts = starts.at[placed.unknown_cells].set(change.first_starts)
            image = field.simulator.image_with(passage, state, counts, starts, change.chains)
            return field.likelihood.residual(field.cut(image), field.targets)

        return jax.lax.map(one, these)

    return over_devices(on_device, (model, points), changes)


class Tangents(eqx.Module):
    """Small changes of a field: of the points of its regions, of the numbers of its unknown cells;
    which chains these change (`FieldSimulator.image_along`)."""

    points: Float[Array, "k regions point"]
    unknown: Float[Array, "k unknown chains"]
    chains: Int[Array, "k some"]


@eqx.filter_jit
def tangent_residuals(
    model: WholeField,
    points: Float[Array, "regions point"],
    whole: Likelihood,
    tangents: Tangents,
) -> tuple[Float[Array, "k regions pixels"], Float[Array, "k outside"]]:
    """What small changes do to the residuals of the regions, and to the pixels of no region, which
    `whole` weighs; one after the other on each device."""

    def on_device(common: tuple[WholeField, Array, Likelihood], these: Tangents) -> Any:
        (field, here, whole) = common
        unknown, corners = field.placement.unknown, field.corners
        inside = jnp.zeros(field.simulator.formation.camera.pixels, bool)
        rows, cols = field.targets.shape[1:]
        for r, c in corners:
            inside = inside.at[r : r + rows, c : c + cols].set(True)

        def placed(points: Array, numbers: Array) -> FieldState:
            cells = UnknownCells(numbers, unknown.shifts)
            return eqx.tree_at(lambda p: p.unknown, field.placement, cells).state(points)

        at = (here, unknown.numbers)
        state = placed(*at)
        passage = field.simulator.passage(state)

        def one(tangent: Tangents) -> tuple[Array, Array]:
            _, moved = jax.jvp(placed, at, (tangent.points, tangent.unknown))
            change = field.simulator.image_along(passage, state, moved, tangent.chains)
            seen = field.likelihood.whiten(field.cut(change)).reshape(len(corners), -1)
            return seen, jnp.where(inside, 0.0, whole.whiten(change)).ravel()

        return jax.lax.map(one, these)

    return over_devices(on_device, (model, points, whole), tangents)


class Eliminated(eqx.Module):
    """Normal equations of the regions, factorised: own coordinates eliminated from shared ones."""

    inverses: Float[Array, "regions own own"]
    through: Float[Array, "regions own shared"]
    shared: Float[Array, "shared shared"]  # inverse of the Schur complement

    def solve(self, step: Parts) -> Parts:
        own, shared = step
        rest = shared - jnp.einsum("rls,rl->s", self.through, own)
        found = self.shared @ rest
        return jnp.einsum("rlm,rm->rl", self.inverses, own) - self.through @ found, found


@eqx.filter_jit
def gauss_newton(
    model: WholeField,
    coordinates: Coordinates,
    points: Float[Array, "regions point"],
    preconditioner: Eliminated,
    damping: Parts,
    free: tuple[Bool[Array, "regions own"], Bool[Array, " shared"]],
    products: Int[Array, ""],
) -> tuple[Parts, Float[Array, ""]]:
    """(a step of the own and the shared coordinates, in units of their widths; what it takes off
    the damped quadratic model of the objective).

    **Arguments:** `coordinates`: own ones, then the shared ones (all regions take the same step in
    those); `damping`, added to the diagonal; `free`: what may move; `products`, at most so many
    products with the Jacobian.
    """
    regions, own = preconditioner.inverses.shape[:2]
    index, weight = coordinates.index, coordinates.precision

    def moved(step: tuple[Array, Array]) -> Array:
        both = jnp.concatenate(
            [step[0], jnp.broadcast_to(step[1], (regions, len(index) - own))], axis=1
        )
        return model.residuals(points.at[:, index].add(both * coordinates.width))

    def masked(step: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(free[0], step[0], 0.0), jnp.where(free[1], step[1], 0.0)

    start = (jnp.zeros((regions, own), points.dtype), jnp.zeros(len(index) - own, points.dtype))
    residual, forward = jax.linearize(moved, start)
    transposed = jax.linear_transpose(forward, start)

    def product(step: tuple[Array, Array]) -> tuple[Array, Array]:
        (one, two) = transposed(forward(masked(step)))[0]
        one = one + step[0] * (weight[:own] + damping[0])
        two = two + step[1] * (weight[own:] + damping[1])
        return masked((one, two))

    pull = coordinates.pull(coordinates.to_unit(points)) / coordinates.prior_std
    (one, two) = transposed(residual)[0]
    slope = masked((-(one + pull[:, :own]), -(two + pull[0, own:])))

    def precondition(step: tuple[Array, Array]) -> tuple[Array, Array]:
        return masked(preconditioner.solve(masked(step)))

    found, _ = cg(product, slope, tol=1e-2, maxiter=products, M=precondition)
    own_step, shared_step = masked(found)
    gain = jnp.sum(own_step * slope[0]) + jnp.sum(shared_step * slope[1])
    return (own_step, shared_step), gain
