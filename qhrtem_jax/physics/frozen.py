"""Thermal diffuse scattering by frozen phonons: incoherent means over lattices whose atoms stand
displaced (R. F. Loane, P. Xu, J. Silcox, Acta Cryst. A47, 267, 1991).

An electron passes in a small part of an atom's period, so each meets a lattice at rest, displaced
as the vibrations have it. What is coherent in all of them is the elastic wave, the rest diffuse.
Displacements are independent (Einstein) or those of a trajectory; along the beam they do not
matter, since slices are projected.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.grid import Grid
from qhrtem_jax.physics.image_formation import ImageFormation, make_instrument
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import Propagation, lowest_frequencies, transmission
from qhrtem_jax.physics.parameters import ImagingParameters
from qhrtem_jax.physics.specimen import Atoms, Crystal, PotentialModel

LEAST_NM = 2.0
"""Least side of the cells that vibrate independently: atoms further apart than this scatter
diffusely whatever the others do."""

MOST_SITES = 2**22
"""Atoms of all snapshots, in tables whose rows are as long as the longest."""


class Lattice(eqx.Module):
    """Atoms of a repeating unit of slices, by slice and kind of atom, each table as long as the
    longest (weight 0: no atom)."""

    factors: Float[Array, "kinds rows cols"]  # Fourier coefficients of a resting atom's phase, rad
    q_y: Float[Array, " rows"]
    q_x: Float[Array, " cols"]
    xy_nm: Float[Array, "snapshots unit kinds most 2"]
    weight: Float[Array, "snapshots unit kinds most"]  # occupancy
    rms_nm: Float[Array, "snapshots unit kinds most"]  # of the displacements along each axis

    def phase(
        self, snapshot: Int[Array, ""], number: Int[Array, ""], key: PRNGKeyArray
    ) -> Float[Array, "rows cols"]:
        """Phase shift in rad of slice `number`, whose atoms are displaced as `key` says."""
        here = number % self.xy_nm.shape[1]
        drawn = jax.random.normal(key, self.xy_nm.shape[2:], self.xy_nm.dtype)
        xy = self.xy_nm[snapshot, here] + self.rms_nm[snapshot, here][..., None] * drawn
        along_y = jnp.exp(-2j * jnp.pi * xy[..., 1, None] * self.q_y)
        along_x = jnp.exp(-2j * jnp.pi * xy[..., 0, None] * self.q_x)
        weighted = self.weight[snapshot, here][..., None] * along_y
        sums = jnp.einsum("kmy,kmx->kyx", weighted, along_x)
        return jnp.fft.ifft2(jnp.sum(self.factors * sums, axis=0), norm="forward").real


class FrozenSimulator(eqx.Module):
    """Images and diffraction patterns of a crystal that vibrates: means over `configurations`.

    The crystal is `tiles` = (rows, cols) of its cell side by side; the image of a cell is the mean
    of all of them, exactly: the intensity's frequencies that the cell repeats. Methods are pure
    functions, differentiable in the continuous imaging parameters and in all arrays of `lattice`.
    Configurations are the same for all parameter vectors: number k is drawn from `seed` and k.
    """

    lattice: Lattice
    propagation: Propagation
    formation: ImageFormation  # its optics for the whole, its camera for a cell
    tiles: tuple[int, int] = eqx.field(static=True)
    slices: int = eqx.field(static=True)
    configurations: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    @property
    def dtype(self) -> jnp.dtype:
        return self.formation.dtype

    def wave(
        self, parameters: ImagingParameters, configuration: Int[Array, ""]
    ) -> Complex[Array, "image_rows image_cols"]:
        """Fourier coefficients, on the image grid, of the wave behind the specimen; NaN for a
        thickness beyond the slices."""
        key = jax.random.fold_in(jax.random.key(self.seed), configuration)
        propagate = self.propagation.over_a_slice(parameters.tilt_rad)
        number = jnp.round(parameters.thickness)

        @jax.checkpoint  # of each configuration, a reverse pass keeps the waves before slices
        def cross(wave: Array, k: Array) -> Array:
            snapshot = self._snapshot(configuration, k)
            phase = self.lattice.phase(snapshot, k, jax.random.fold_in(key, k))
            grating = transmission(
                phase * (1.0 + 1j * parameters.absorption), self.propagation.band_mask
            )
            return jnp.fft.ifft2(jnp.fft.fft2(wave * grating) * propagate)

        def step(wave: Array, k: Array) -> tuple[Array, None]:
            return jax.lax.cond(k < number, cross, lambda wave, k: wave, wave, k), None

        start = jnp.ones(propagate.shape, propagate.dtype)
        wave, _ = jax.lax.scan(step, start, jnp.arange(self.slices))
        behind = lowest_frequencies(jnp.fft.fft2(wave, norm="forward"), self.propagation.kept)
        return jnp.where((number >= 1) & (number <= self.slices), behind, jnp.nan)

    def _snapshot(self, configuration: Int[Array, ""], number: Int[Array, ""]) -> Int[Array, ""]:
        """Which displaced lattice slice `number` is of: one after the other; below its last slice
        another, as long as there are some, since a lattice that begins again would be displaced
        alike, and scatter more. At each depth, every configuration has one of its own."""
        snapshots, unit = self.lattice.xy_nm.shape[:2]
        first = configuration % snapshots
        if snapshots == 1 or unit >= self.slices:
            return first
        key = jax.random.fold_in(jax.random.key(self.seed), self.configurations)
        others = jax.random.permutation(key, snapshots - 1) + 1
        further = jnp.append(0, others)[number // unit % snapshots]
        return (first + further.astype(first.dtype)) % snapshots

    def pixels(
        self, wave: Complex[Array, "image_rows image_cols"], parameters: ImagingParameters
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """The image of a wave, as the mean over the cells; vacuum 1."""
        spectrum = self.formation.spectrum(wave, parameters.formation)
        cell = spectrum[:: self.tiles[0], :: self.tiles[1]]
        return self.formation.camera(cell, parameters.formation)

    def images(
        self, vector: Float[Array, " parameters"]
    ) -> Float[Array, "configurations pixel_rows pixel_cols"]:
        """The image of each configuration."""
        parameters = self.formation.typed(vector)

        def one(configuration: Array) -> Array:
            return self.pixels(self.wave(parameters, configuration), parameters)

        return jax.lax.map(one, jnp.arange(self.configurations), batch_size=self.batch)

    def image(self, vector: Float[Array, " parameters"]) -> Float[Array, "pixel_rows pixel_cols"]:
        """The mean image of one parameter vector; vacuum intensity 1."""
        return jnp.mean(self.images(vector), axis=0)

    def image_and_error(
        self, vector: Float[Array, " parameters"]
    ) -> Float[Array, "2 pixel_rows pixel_cols"]:
        """The mean image, and its standard error for so few configurations."""
        images = self.images(vector)
        error = jnp.std(images, axis=0, ddof=1) / np.sqrt(self.configurations)
        return jnp.stack([jnp.mean(images, axis=0), error])

    def mean_wave(
        self, vector: Float[Array, " parameters"]
    ) -> tuple[Complex[Array, "image_rows image_cols"], Float[Array, "image_rows image_cols"]]:
        """Fourier coefficients of the mean wave, and the mean of their squares."""
        parameters = self.formation.typed(vector)

        def add(
            sums: tuple[Array, Array], configuration: Array
        ) -> tuple[tuple[Array, Array], None]:
            wave = self.wave(parameters, configuration)
            return (sums[0] + wave, sums[1] + jnp.abs(wave) ** 2), None

        none = jnp.zeros(self.formation.image_shape, self.propagation.band_mask.dtype)
        start = (none.astype(jnp.result_type(none, jnp.complex64)), none)
        (wave, square), _ = jax.lax.scan(add, start, jnp.arange(self.configurations))
        return wave / self.configurations, square / self.configurations

    def wave_and_patterns(
        self, vector: Float[Array, " parameters"]
    ) -> tuple[Complex[Array, "cell_rows cell_cols"], Float[Array, "2 image_rows image_cols"]]:
        """The elastic wave behind a cell in real space, vacuum amplitude 1; and intensities in the
        diffraction plane, FFT order, incident beam 1: all, and the elastic ones, without what the
        mean of so few configurations holds of the diffuse ones."""
        (wave, square), many = self.mean_wave(vector), self.configurations
        elastic = (many * jnp.abs(wave) ** 2 - square) / (many - 1)
        down, along = self.tiles  # elsewhere is nothing that all cells have in common
        beams = jnp.zeros_like(elastic).at[::down, ::along].set(elastic[::down, ::along])
        of_a_cell = jnp.fft.ifft2(wave[::down, ::along], norm="forward")
        return of_a_cell, jnp.stack([square, beams])


def tiles_of(crystal: Crystal) -> tuple[int, int]:
    """How often the cell is repeated (down, along) so that it is `LEAST_NM` wide."""
    width, height = crystal.size_nm[:2]
    return int(np.ceil(LEAST_NM / height - 1e-9)), int(np.ceil(LEAST_NM / width - 1e-9))


def repeated(crystal: Crystal, tiles: tuple[int, int]) -> Crystal:
    """`tiles` = (rows, cols) of the cell side by side."""
    rows, cols = tiles
    atoms, count = crystal.atoms, rows * cols
    y, x = np.divmod(np.arange(count), cols)
    shift = np.stack([x, y, np.zeros(count)], axis=1)
    places = np.mod(atoms.positions[:, :2], 1.0)
    places = np.concatenate([places, atoms.positions[:, 2:]], axis=1)
    every = (shift[:, None] + places) / np.array([cols, rows, 1.0])
    width, height, depth = crystal.size_nm
    return Crystal(
        (width * cols, height * rows, depth),
        Atoms(
            atoms.symbols * count,
            every.reshape(-1, 3),
            np.tile(atoms.occupancy, count),
            np.tile(atoms.b_nm2, count),
        ),
        crystal.slices,
    )


def make_lattice(
    snapshots: Sequence[Crystal], model: PotentialModel, grid: Grid, dtype: jnp.dtype
) -> Lattice:
    """The atoms of cells of one size and as many slices, which follow each other in turn.

    **Raises:** `InputError` where they are too many.
    """
    kinds = sorted({symbol for crystal in snapshots for symbol in crystal.atoms.symbols})
    unit = snapshots[0].slices
    where = [
        crystal.slice_of_atoms() * len(kinds)
        + np.array([kinds.index(s) for s in crystal.atoms.symbols])
        for crystal in snapshots
    ]
    most = max(int(np.bincount(place).max()) for place in where)
    shape = (len(snapshots), unit * len(kinds), most)
    if np.prod(shape, dtype=float) > MOST_SITES:
        raise InputError(
            f"frozen phonons: found {len(snapshots)} snapshots of {unit} slices with up to {most} "
            f"atoms of a kind, expected at most {MOST_SITES} in all"
        )
    xy, weight, rms = np.zeros((*shape, 2)), np.zeros(shape), np.zeros(shape)
    for n, (crystal, place) in enumerate(zip(snapshots, where, strict=True)):
        order = np.argsort(place, kind="stable")
        group = np.asarray(place[order], dtype=np.int64)
        rank = np.arange(len(order)) - np.searchsorted(group, group)
        at = n, group, rank
        xy[at] = crystal.atoms.positions[order, :2] * np.array(crystal.size_nm[:2])
        weight[at] = crystal.atoms.occupancy[order]
        rms[at] = np.sqrt(crystal.atoms.b_nm2[order] / (8.0 * np.pi**2))
    q_y, q_x = grid.axes()
    by_slice = (unit, len(kinds), most)
    return Lattice(
        factors=jnp.asarray(np.array([model.atom_phase(s, 0.0, grid) for s in kinds]), dtype),
        q_y=jnp.asarray(q_y, dtype),
        q_x=jnp.asarray(q_x, dtype),
        xy_nm=jnp.asarray(xy.reshape(-1, *by_slice, 2), dtype),
        weight=jnp.asarray(weight.reshape(-1, *by_slice), dtype),
        rms_nm=jnp.asarray(rms.reshape(-1, *by_slice), dtype),
    )


def make_frozen(
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    *,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, int],
    slices: int,
    configurations: int,
    seed: int,
    tiles: tuple[int, int] | None = None,
    snapshots: Sequence[Crystal] | None = None,
    scattering: str = "weickenmeier_kohl",
    precision: str = "float32",
    source: SourceSampling | None = None,
    batch: int = 1,
) -> FrozenSimulator:
    """Simulator of a crystal that vibrates; arguments as those of `make_simulator`, and

    **Arguments:** `grid_shape`, `image_shape`: of one cell; `tiles` = (rows, cols) of cells that
    vibrate independently (default: `tiles_of`); `snapshots`: displaced lattices of `tiles` cells
    each, at rest but for what their Debye-Waller factors say, instead of the crystal's own atoms
    with independent displacements; `batch`: configurations that are computed together.

    **Raises:** `InputError` where a number cannot be used.
    """
    if configurations < 2:
        raise InputError(f"configurations: found {configurations}, expected at least 2")
    tiles = tiles_of(crystal) if tiles is None else tiles
    whole = repeated(crystal, tiles)
    grid = whole.grid((tiles[0] * grid_shape[0], tiles[1] * grid_shape[1]))
    image = tiles[0] * image_shape[0], tiles[1] * image_shape[1]
    known = crystal.slice_thickness_nm, frame, precision, source
    propagation, formation = make_instrument(microscope, grid, image, *known)
    _, of_a_cell = make_instrument(microscope, crystal.grid(grid_shape), image_shape, *known)
    lattice = make_lattice(
        snapshots or (whole,), microscope.potential_model(scattering), grid, formation.dtype
    )
    return FrozenSimulator(
        lattice,
        propagation,
        eqx.tree_at(lambda f: f.camera, formation, of_a_cell.camera),
        tiles=tiles,
        slices=slices,
        configurations=configurations,
        seed=seed,
        batch=batch,
    )
