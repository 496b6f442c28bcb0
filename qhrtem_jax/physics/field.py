"""Images of a whole field: a supercell of cells that differ in heights, numbers and positions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.columns import (
    ColumnPotential,
    Columns,
    make_potential,
    repeat_columns,
    sites_of,
)
from qhrtem_jax.physics.image_formation import ImageFormation, make_instrument
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import Passage, Propagation
from qhrtem_jax.physics.parameters import ImagingParameters


class FieldState(eqx.Module):
    """What a field is made of; cells are numbered row by row.

    `imaging` is a vector of `physics.parameters` whose C1 and A0 refer to the far end of the stack;
    its absorption and thickness are not used. `starts`: rank of each chain's first atom among the
    sites of the whole stack (its height). `mtf_stretch`: see `physics.camera`.
    """

    imaging: Float[Array, " parameters"]
    counts: Float[Array, "cells chains"]
    starts: Float[Array, "cells chains"]
    shifts_nm: Float[Array, "cells columns 2"]
    occupancies: Float[Array, "cells chains"]
    absorption: Float[Array, " cells"]
    mtf_stretch: Float[Array, " 2"]


class FieldSimulator(eqx.Module):
    """Differentiable simulator of `shape` = (rows, cols) cells, periodic at the outer edges."""

    propagation: Propagation
    formation: ImageFormation
    potential: ColumnPotential
    shape: tuple[int, int] = eqx.field(static=True)

    def typed(self, state: FieldState) -> ImagingParameters:
        """Typed imaging parameters of a field."""
        return self.formation.typed(state.imaging, state.mtf_stretch)

    def occupancy(self, state: FieldState) -> Float[Array, "stack chains"]:
        """Atoms of each chain of all cells in each slice."""
        return self.potential.occupancy(
            state.counts.ravel(), state.occupancies.ravel(), state.starts.ravel()
        )

    def phases(self, state: FieldState) -> Complex[Array, "stack rows cols"]:
        """Phase shift of every slice."""
        absorption = jnp.repeat(state.absorption, state.counts.shape[1])
        shifts = state.shifts_nm.reshape(-1, 2)
        return self.potential.phases(shifts, self.occupancy(state), absorption)

    def wave(self, state: FieldState) -> Complex[Array, "rows cols"]:
        """Fourier coefficients, on the image grid, of the wave behind the stack."""
        return self.propagation.through(self.phases(state), self.typed(state).tilt_rad)

    @eqx.filter_jit
    def image(self, state: FieldState) -> Float[Array, "pixel_rows pixel_cols"]:
        """The image of the field; vacuum 1."""
        return self.formation(self.wave(state), self.typed(state).formation)

    def passage(self, state: FieldState) -> Passage:
        """The way of the wave through the field."""
        return self.propagation.passage(self.phases(state), self.typed(state).tilt_rad)

    def image_with(
        self,
        passage: Passage,
        state: FieldState,
        counts: Float[Array, "cells chains"],
        starts: Float[Array, "cells chains"],
        chains: Int[Array, " some"],
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """The image of `state` with other numbers and starts, from its `passage`: only what lies
        behind the first slice that differs is computed anew.

        `chains`: which of all chains of the field differ, numbered cell by cell, each once; -1:
        none. Not differentiable in reverse.
        """
        other = eqx.tree_at(lambda s: (s.counts, s.starts), state, (counts, starts))
        typed, own = self.typed(state), state.counts.shape[1]
        atoms = (self.occupancy(other) - self.occupancy(state))[:, chains]
        atoms = jnp.where(chains >= 0, atoms, 0.0)
        weights = atoms * (1.0 + 1j * state.absorption[chains // own])
        shifts = state.shifts_nm.reshape(-1, 2)

        def change(k: Array) -> Array:
            return self.potential.phase_of(chains, shifts, weights[k])

        changed = jnp.any(atoms != 0.0, axis=1)
        wave = self.propagation.through_changed(passage, changed, change, typed.tilt_rad)
        return self.formation(wave, typed.formation)

    def image_along(
        self,
        passage: Passage,
        state: FieldState,
        tangent: FieldState,
        chains: Int[Array, " some"],
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """The derivative of the image of `state`, from its `passage`, along a `tangent`.

        `chains`: which of all chains of the field the tangent changes, as in `image_with`; if the
        first is -2, any. Not differentiable in reverse.
        """
        own = state.counts.shape[1]
        occupancy, atoms = jax.jvp(self.occupancy, (state,), (tangent,))
        weights, changes = jax.jvp(
            lambda n, a: n * (1.0 + 1j * jnp.repeat(a, own)),
            (occupancy, state.absorption),
            (atoms, tangent.absorption),
        )
        columns = np.array(self.potential.chain_column)
        shifts = (state.shifts_nm.reshape(-1, 2), tangent.shifts_nm.reshape(-1, 2))
        moved = jnp.any(shifts[1] != 0.0, axis=1)[columns] & (occupancy != 0.0)
        changed = jnp.any((changes != 0.0) | moved, axis=1)
        many = chains[0] == -2
        phases = jax.lax.cond(
            many,
            lambda: jax.jvp(self.phases, (state,), (tangent,))[1],
            lambda: 0.0 * passage.phases,
        )
        weights, changes = (
            jnp.where(chains >= 0, table[:, chains], 0.0) for table in (weights, changes)
        )

        def phase_of(shifts_nm: Array, weights: Array) -> Array:
            return self.potential.phase_of(chains, shifts_nm, weights)

        def change(k: Array) -> Array:
            along = ((shifts[0], weights[k]), (shifts[1], changes[k]))
            return jax.lax.cond(
                many, lambda: phases[k], lambda: jax.jvp(phase_of, *along)[1].astype(phases.dtype)
            )

        typed, typed_change = jax.jvp(self.typed, (state,), (tangent,))
        wave = self.propagation.varied(
            passage, changed, change, typed.tilt_rad, typed_change.tilt_rad
        )
        formed = (passage.behind, typed.formation), (wave, typed_change.formation)
        return jax.jvp(self.formation, *formed)[1]


def make_field(
    columns: Columns,
    shape: tuple[int, int],
    stack_cells: int,
    microscope: Microscope,
    frame: Frame,
    *,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, int],
    scattering: str = "weickenmeier_kohl",
    thermal_absorption: bool = False,
    precision: str = "float32",
    source: SourceSampling | None = None,
) -> FieldSimulator:
    """Simulator of `shape` cells; `grid_shape` and `image_shape` are those of one cell.

    `frame`: pixels of the field; its origin is that of the pixel grid in the supercell.
    """
    whole = repeat_columns(columns, *shape)
    rows, cols = (n * g for n, g in zip(shape, grid_shape, strict=True))
    image = tuple(n * g for n, g in zip(shape, image_shape, strict=True))
    grid = whole.grid((rows, cols))
    propagation, formation = make_instrument(
        microscope, grid, (image[0], image[1]), whole.slice_nm, frame, precision, source
    )
    sites = sites_of(whole, stack_cells)
    model = microscope.potential_model(scattering, thermal_absorption)
    potential = make_potential(whole, sites, model, grid, formation.dtype)
    return FieldSimulator(propagation, formation, potential, shape)
