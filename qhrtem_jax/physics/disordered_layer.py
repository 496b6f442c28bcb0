"""Images of thin layers of atoms at random on the faces of a crystal: their speckle.

An atom with phase phi(r) adds (exp(i phi) - 1) psi to the wave psi behind the crystal where it lies
on the exit face; where it lies on the entrance face, what it scatters first travels through the
crystal's thickness, and is taken to be channelled there as the incident wave is. Atoms at random
places change the image independently, so the power of speckle is the number of atoms times the mean
power of what one of them does (Campbell's theorem).
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.columns import Columns, repeat_columns
from qhrtem_jax.physics.image_formation import ImageFormation, make_instrument
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import lowest_frequencies
from qhrtem_jax.physics.parameters import Formation

LEAST_NM = 1.0
"""Least size of what carries a layer: many times the reach of one atom's speckle."""


class DisorderedLayers(eqx.Module):
    """Atoms of a crystal's own kinds on a periodic cell, which is repeated `tiles` = (down, along)
    times. `atoms`: Fourier coefficients of exp(i phi) - 1 of one of each kind; `number`: how many
    there are in a layer of 1 nm."""

    formation: ImageFormation
    atoms: Complex[Array, "kinds rows cols"]
    number: Float[Array, " kinds"]
    tiles: tuple[int, int] = eqx.field(static=True)

    @eqx.filter_jit
    def images(
        self,
        wave: Complex[Array, "cell_rows cell_cols"],
        formation: Formation,
        beyond_nm: Float[Array, ""],
        thickness_nm: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, "2 kinds pixel_rows pixel_cols"]:
        """What one atom of each kind, at a place drawn by `key`, adds to the image, times the root
        of its number in a layer of 1 nm: on the exit face, on the entrance face.

        **Arguments:** `wave`, Fourier coefficients of the cell's wave, as `formation` images it;
        `beyond_nm`, distance of that plane behind the exit face; `thickness_nm`, of the crystal.
        """
        tiled = jnp.tile(jnp.fft.ifft2(wave, norm="forward"), self.tiles)
        whole = jnp.fft.fft2(tiled, norm="forward")
        psi = jnp.fft.ifft2(self._over(whole, -beyond_nm), norm="forward")
        rows, cols = (jnp.fft.fftfreq(n, 1.0 / n) for n in whole.shape)
        place = jax.random.uniform(key, (2,), self.formation.dtype)
        there = jnp.exp(-2j * jnp.pi * (rows[:, None] * place[0] + cols * place[1])) * self.atoms
        scattered = jnp.stack([there, self._over(there, thickness_nm)])
        leaving = jnp.fft.fft2(jnp.fft.ifft2(scattered, norm="forward") * psi, norm="forward")
        changed = whole + self._over(leaving, beyond_nm)
        every = changed.reshape(-1, *whole.shape).astype(whole.dtype)
        images = jax.lax.map(lambda w: self.formation(w, formation), every)
        added = images - self.formation(whole, formation)
        scale = jnp.sqrt(self.number)[:, None, None]
        return added.reshape(2, len(self.atoms), *added.shape[1:]) * scale

    @eqx.filter_jit
    def white(
        self, formation: Formation, key: PRNGKeyArray
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """An intensity of white spectrum, drawn by `key`, as the camera sees it."""
        shape, dtype = self.formation.image_shape, self.formation.dtype
        drawn = jnp.fft.rfft2(jax.random.normal(key, shape, dtype))
        random_phases = drawn / jnp.maximum(jnp.abs(drawn), 1e-12)
        return self.formation.camera.linear(random_phases, formation)

    def _over(self, wave: Array, distance_nm: Array) -> Array:
        """Fresnel propagation, as `multislice.propagator` without a tilt."""
        optics = self.formation.optics
        square = optics.w_x**2 + optics.w_y**2
        return wave * jnp.exp(-1j * jnp.pi * distance_nm / optics.wavelength_nm * square)


def make_layers(
    columns: Columns,
    microscope: Microscope,
    frame: Frame,
    *,
    image_shape: tuple[int, int],
    grid_shape: tuple[int, int],
    scattering: str,
    precision: str,
    source: SourceSampling | None,
    thermal_absorption: bool = False,
) -> DisorderedLayers:
    """Layers on a cell of `columns`; arguments as those of `make_structured`. Images have as many
    times the pixels of `frame` as the cell is repeated."""
    size = columns.size_nm[1], columns.size_nm[0]
    tiles = math.ceil(LEAST_NM / size[0]), math.ceil(LEAST_NM / size[1])

    def times(shape: tuple[int, int]) -> tuple[int, int]:
        return shape[0] * tiles[0], shape[1] * tiles[1]

    whole = repeat_columns(columns, *tiles)
    _, formation = make_instrument(
        microscope,
        whole.grid(times(grid_shape)),
        times(image_shape),
        columns.slice_nm,
        dataclasses.replace(frame, shape=times(frame.shape)),
        precision,
        source,
    )
    model, grid = (
        microscope.potential_model(scattering, thermal_absorption),
        whole.grid(times(grid_shape)),
    )
    kinds: dict[tuple[str, float], float] = {}
    for chain in columns.chains:
        kind, number = (chain.symbol, chain.b_nm2), len(chain.slices) * chain.occupancy
        kinds[kind] = kinds.get(kind, 0.0) + number * math.prod(tiles) / columns.size_nm[2]
    phases = [np.fft.ifft2(model.atom_phase(*kind, grid), norm="forward") for kind in kinds]
    one = np.fft.fft2(np.expm1(1j * np.array(phases)), norm="forward")
    dtype = np.result_type(formation.dtype, np.complex64)
    atoms = lowest_frequencies(jnp.asarray(one, dtype), times(image_shape))
    number = jnp.asarray(list(kinds.values()), formation.dtype)
    return DisorderedLayers(formation, atoms, number, tiles)
