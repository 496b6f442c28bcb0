"""The error that `auto` states is the error that it has."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.physics.autogrid import REFERENCE_FOCI, choose_grids
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from tests.physics import crystal


def spread_vectors():
    rng = np.random.default_rng(0)
    vectors = np.stack([crystal.vector(**crystal.EVERYTHING) for _ in range(5)])
    vectors[:, INDEX["C1"]] = rng.uniform(0, 10, 5)
    vectors[:, INDEX["focus_spread"]] = rng.uniform(2, 6, 5)
    vectors[:, INDEX["thickness"]] = [2, 6, 12, 20, 30]
    return vectors


@pytest.mark.parametrize("wanted", [1e-3, 1e-4])
def test_error_is_kept_on_other_vectors(wanted):
    microscope = Microscope(mtf=crystal.MTF)
    vectors = spread_vectors()
    choice = choose_grids(
        crystal.crystal(),
        microscope,
        crystal.FRAME,
        vectors=vectors,
        slices=30,
        scattering="weickenmeier_kohl",
        error=wanted,
    )
    assert choice.error < 2.0 * wanted
    options = {"slices": 30, "precision": "float32"}
    fine = crystal.simulator(grid_shape=(120, 160), source=REFERENCE_FOCI, **options)
    coarse = crystal.simulator(
        grid_shape=choice.grid, image_shape=choice.image, source=choice.source, **options
    )
    points = jnp.asarray(
        vectors[::-1] * [1.03 if k == INDEX["A1_x"] else 1.0 for k in range(vectors.shape[1])],
        jnp.float32,
    )
    difference = np.asarray(fine.images(points)) - np.asarray(coarse.images(points))
    error = float(np.sqrt(np.mean(difference**2, axis=(1, 2))).max())
    assert error < 2.0 * wanted
    assert choice.grid[0] * choice.grid[1] < 120 * 160
    assert choice.image[0] * choice.image[1] < choice.grid[0] * choice.grid[1]


def test_a_smaller_error_costs_a_larger_grid():
    choices = [
        choose_grids(
            crystal.crystal(),
            Microscope(mtf=crystal.MTF),
            crystal.FRAME,
            vectors=spread_vectors(),
            slices=30,
            scattering="weickenmeier_kohl",
            error=error,
        )
        for error in (1e-3, 1e-5)
    ]
    assert choices[0].grid[0] * choices[0].grid[1] < choices[1].grid[0] * choices[1].grid[1]
    assert choices[0].source.foci <= choices[1].source.foci
