"""Speckle of disordered layers, against specimens that have atoms at random on their faces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.matching.speckle import power_in_cosines
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of, sites_of
from qhrtem_jax.physics.disordered_layer import make_layers
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal
from qhrtem_jax.physics.structured import make_structured
from tests.physics import crystal as sto

COLUMNS = columns_of(sto.crystal())
GRID, CELLS = (40, 56), 4
FRAME = Frame((24, 34), (sto.A / 24, sto.A * 2**0.5 / 34))
LAYER_SLICES, DRAWS, PLACES = 2, 16, 32
MICROSCOPE = Microscope(mtf=sto.MTF)
VALUES = {"C1": 6.0, "A1_x": 2.0, "image_spread": 0.02}
LAYERS = make_layers(
    COLUMNS,
    MICROSCOPE,
    FRAME,
    image_shape=GRID,
    grid_shape=GRID,
    scattering="weickenmeier_kohl",
    precision="float64",
    source=None,
)


def wave_and_formation(counts, values):
    simulator = make_structured(
        COLUMNS,
        sites_of(COLUMNS, CELLS),
        MICROSCOPE,
        FRAME,
        grid_shape=GRID,
        image_shape=GRID,
        precision="float64",
    )
    ones = np.ones(simulator.layout.chains)
    shifts = np.zeros((simulator.layout.columns, 2))
    point = jnp.asarray(simulator.layout.point(sto.vector(**values), shifts, counts, ones))
    return simulator.wave(point), simulator.typed(point).formation


def powers(images):
    """Mean power of patches of one cell, in cosines; second axis: kinds of atoms."""
    down, along = LAYERS.tiles
    images = np.asarray(images)
    patches = images.reshape(*images.shape[:2], down, FRAME.shape[0], along, FRAME.shape[1])
    return power_in_cosines(patches.swapaxes(3, 4)).sum(axis=1).mean(axis=(0, 1, 2))


def predicted(counts, values, beyond=0.0, draws=PLACES):
    """Powers of 1 nm (at the exit, at the entrance)."""
    wave, formation = wave_and_formation(counts, values)
    thickness = CELLS * COLUMNS.size_nm[2]
    found = [
        LAYERS.images(wave, formation, jnp.asarray(beyond), jnp.asarray(thickness), key)
        for key in jax.random.split(jax.random.key(1), draws)
    ]
    return powers([f[0] for f in found]), powers([f[1] for f in found])


def with_layer(generator, face):
    """Image of the crystal with atoms at random behind or before it (None: nothing there)."""
    a, b, c = COLUMNS.size_nm
    down, along = LAYERS.tiles
    slices = CELLS * COLUMNS.slices + 2 * LAYER_SLICES
    one, symbols, positions = sto.crystal().atoms, [], []
    for i, j, k in np.ndindex(along, down, CELLS):
        symbols += one.symbols
        depth = (one.positions[:, 2] + k) * COLUMNS.slices + LAYER_SLICES
        places = (one.positions[:, :2] + [i, j]) / [along, down]
        positions.append(np.column_stack([places, depth / slices]))
    kinds = sorted({(s, float(x)) for s, x in zip(one.symbols, one.b_nm2, strict=True)})
    b_of = dict(kinds)
    volume = down * along * a * b * LAYER_SLICES * COLUMNS.slice_nm
    for kind, _ in kinds if face is not None else ():
        density = one.symbols.count(kind) / (a * b * c)
        number = generator.poisson(density * volume)
        first = 0 if face == "entrance" else slices - LAYER_SLICES
        depth = (first + generator.integers(LAYER_SLICES, size=number) + 0.5) / slices
        symbols += [kind] * number
        positions.append(np.column_stack([generator.uniform(size=(number, 2)), depth]))
    atoms = Atoms(
        tuple(symbols),
        np.concatenate(positions),
        np.ones(len(symbols)),
        np.array([b_of[s] for s in symbols]),
    )
    size = (a * along, b * down, slices * COLUMNS.slice_nm)
    grid = GRID[0] * down, GRID[1] * along
    frame = Frame((FRAME.shape[0] * down, FRAME.shape[1] * along), FRAME.sampling_nm)
    simulator = make_simulator(
        Crystal(size, atoms, slices),
        MICROSCOPE,
        frame,
        grid_shape=grid,
        slices=slices,
        precision="float64",
    )
    return np.asarray(simulator.images(sto.vector(**VALUES, thickness=slices)[None])[0])


@pytest.mark.parametrize(("face", "tolerance"), [("exit", 0.2), ("entrance", 0.3)])
def test_speckle_has_the_power_of_atoms_at_random(face, tolerance):
    generator = np.random.default_rng(5)
    empty = with_layer(generator, None)
    found = powers([[with_layer(generator, face) - empty] for _ in range(DRAWS)])
    nm = LAYER_SLICES * COLUMNS.slice_nm
    # the image is formed behind the layer, whose middle is half of it behind the crystal
    at_exit = VALUES | {"C1": VALUES["C1"] + nm}
    exits, entrances = predicted(COLUMNS.most_atoms(CELLS), at_exit, -nm / 2)
    expected = nm * (exits if face == "exit" else entrances)
    (rows, cols), (d_y, d_x) = FRAME.shape, FRAME.sampling_nm
    f_y, f_x = np.arange(rows) / (2 * rows * d_y), np.arange(cols) / (2 * cols * d_x)
    q = np.hypot(f_y[:, None], f_x)
    for low, high in ((1.0, 4.0), (4.0, 7.0), (7.0, 10.0)):
        inside = (q >= low) & (q < high)
        ratio = found[inside].mean() / expected[inside].mean()
        assert ratio == pytest.approx(1.0, abs=tolerance), (low, high)


def test_in_vacuum_a_layer_above_is_an_out_of_focus_one():
    none = np.zeros(len(COLUMNS.chains))
    thickness = CELLS * COLUMNS.size_nm[2]
    _, above = predicted(none, VALUES)
    below, _ = predicted(none, VALUES | {"C1": VALUES["C1"] + thickness})
    far, _ = predicted(none, VALUES | {"C1": VALUES["C1"] - thickness})
    close, away = np.abs(above - below).sum(), np.abs(far - below).sum()
    assert close < 0.25 * away
    assert close < 0.2 * below.sum()


def test_the_plane_of_the_wave_does_not_matter():
    """A wave taken further behind the exit face, and C1 that much less, give the same speckle."""
    counts, distance = COLUMNS.most_atoms(CELLS), 0.7
    wave, formation = wave_and_formation(counts, VALUES)
    key = jax.random.key(2)
    thickness = jnp.asarray(2.0)
    here = LAYERS.images(wave, formation, jnp.asarray(0.0), thickness, key)
    # propagate the periodic wave by hand
    q_y = np.fft.fftfreq(GRID[0], COLUMNS.size_nm[1] / GRID[0])
    q_x = np.fft.fftfreq(GRID[1], COLUMNS.size_nm[0] / GRID[1])
    wavelength = LAYERS.formation.optics.wavelength_nm
    moved = wave * np.exp(-1j * np.pi * wavelength * distance * (q_y[:, None] ** 2 + q_x**2))
    vector = sto.vector(**VALUES)
    vector[INDEX["C1"]] -= distance
    behind = LAYERS.formation.typed(jnp.asarray(vector)).formation
    there = LAYERS.images(moved, behind, jnp.asarray(distance), thickness, key)
    np.testing.assert_allclose(there, here, atol=2e-3 * float(jnp.abs(here).max()))
