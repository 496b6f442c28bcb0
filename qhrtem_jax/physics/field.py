"""Images of a whole field: a supercell of cells that differ in heights, numbers and positions."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

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
from qhrtem_jax.physics.multislice import Propagation
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

    def wave(self, state: FieldState) -> Complex[Array, "rows cols"]:
        """Fourier coefficients, on the image grid, of the wave behind the stack."""
        occupancy = self.potential.occupancy(
            state.counts.ravel(), state.occupancies.ravel(), state.starts.ravel()
        )
        absorption = jnp.repeat(state.absorption, state.counts.shape[1])
        phases = self.potential.phases(state.shifts_nm.reshape(-1, 2), occupancy, absorption)
        return self.propagation.through(phases, self.typed(state).tilt_rad)

    @eqx.filter_jit
    def image(self, state: FieldState) -> Float[Array, "pixel_rows pixel_cols"]:
        """The image of the field; vacuum 1."""
        return self.formation(self.wave(state), self.typed(state).formation)


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
    potential = make_potential(
        whole, sites, microscope.potential_model(scattering), grid, formation.dtype
    )
    return FieldSimulator(propagation, formation, potential, shape)
