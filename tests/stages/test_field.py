"""Pieces of the stitched field: its cells, displacements, polarisation."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.field.layout import apart, field_layout
from qhrtem_jax.field.properties import displacements, polarisation
from qhrtem_jax.inputs.image import Experiment
from qhrtem_jax.inputs.lattice import lattice_drift
from qhrtem_jax.inputs.rois import Region
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of
from tests.physics import crystal as sto

COLUMNS = columns_of(sto.crystal())
SAMPLING = 0.01
TILE = (39, 55)  # pixels, about one cell


def problem(origins, image):
    """What `field_layout` wants to know."""
    frame = Frame(image.shape, (SAMPLING, SAMPLING))
    regions = tuple(
        Region(f"ROI{k + 1}", o, image[o[0] : o[0] + TILE[0], o[1] : o[1] + TILE[1]])
        for k, o in enumerate(origins)
    )
    return Experiment(image, frame, None), regions, COLUMNS


def wedge():
    """A row of vacuum above two rows of crystal, two tiles wide."""
    rng = np.random.default_rng(0)
    image = 1.0 + 0.2 * rng.normal(size=(3 * TILE[0], 2 * TILE[1]))
    image[: TILE[0]] = 1.0
    return image


def test_cells_are_known_unknown_or_vacuum():
    task = problem([(39, 0), (39, 55), (78, 0)], wedge())
    layout = field_layout(*task)
    assert layout.shape == (6, 4)  # three by two that are seen, and a margin
    np.testing.assert_array_equal(layout.region_cells, [1 * 4, 1 * 4 + 1, 2 * 4])
    unknown = {(int(k) // 4, int(k) % 4) for k in layout.unknown_cells}
    assert (2, 1) in unknown  # crystal that no region shows
    assert {(3, 0), (1, 2), (2, 3)} <= unknown  # beyond the frame, like what is next to it
    assert not any(i in (0, 5) for i, _ in unknown)  # vacuum, and what lies beyond it
    nearest = dict(zip(map(int, layout.unknown_cells), layout.nearest_region, strict=True))
    assert nearest[1 * 4 + 2] == 1


def tiled(pixels):
    """Layout of six by four regions, `pixels` (rows, cols) from one to the next."""
    origins = [(pixels[0] * i, pixels[1] * j) for i in range(6) for j in range(4)]
    image = np.random.default_rng(0).normal(1.0, 0.2, (6 * pixels[0], 4 * pixels[1]))
    return field_layout(*problem(origins, image))


def test_regions_change_together_where_nothing_sees_both():
    layout = tiled(TILE)
    assert layout.near[:, 5].sum() == 9  # ROI6 and all around it
    assert layout.near[:, 0].sum() == 4  # a corner
    groups = apart(layout.near)
    assert sorted(k for group in groups for k in group) == list(range(24))
    assert len(groups) == 9
    for group in groups:
        assert layout.near[:, group].sum(axis=1).max() == 1


def test_pixels_that_left_their_cells_see_further():
    drifting = tiled((TILE[0] - 2, TILE[1]))  # a quarter of a cell at the last row
    straight = tiled(TILE)
    last = 5 * 4
    assert not straight.near[last, last - 8]
    assert drifting.near[last, last - 8]  # two rows below, but its pixels begin above its cell
    for group in apart(drifting.near):
        assert drifting.near[:, group].sum(axis=1).max() == 1


def test_two_regions_in_one_cell_are_refused():
    with pytest.raises(InputError, match=r"ROI1 at \[39, 0\] and ROI2 at \[44, 3\]"):
        field_layout(*problem([(39, 0), (44, 3)], wedge()))


def test_the_lattice_drifts_against_the_pixels():
    frame = Frame((200, 200), (SAMPLING, SAMPLING))
    drift = lattice_drift((78, 110), COLUMNS, frame)
    expected = [2 * COLUMNS.size_nm[0] - 1.10, 2 * COLUMNS.size_nm[1] - 0.78]
    np.testing.assert_allclose(drift, expected, atol=1e-12)


def shifts_of(symbol, shift):
    moved = np.zeros((len(COLUMNS.xy), 2))
    for chain in COLUMNS.chains:
        shared = sum(c.column == chain.column for c in COLUMNS.chains) > 1
        if chain.symbol == symbol and not shared:
            moved[chain.column] = shift
    return moved


def test_a_cation_is_displaced_against_the_oxygen_beside_it():
    covariance = np.diag(np.full(2 * len(COLUMNS.xy), 4e-6))  # 2 pm each
    shifts = shifts_of("Ti", (0.003, 0.012)) + shifts_of("O", (-0.001, -0.004))
    found = displacements(COLUMNS, shifts + 0.05, covariance, 1.0)
    assert found.species == "Ti"
    assert found.mean.dx_pm == pytest.approx(4.0)
    assert found.mean.dy_pm == pytest.approx(16.0)
    # one column, less the mean of two
    assert found.columns[0].std_dy_pm == pytest.approx(2.0 * np.sqrt(1.5))


def test_polarisation_is_charge_times_displacement_over_volume():
    charges = {"Sr": 2.0, "Ti": 4.0, "O": -2.0}  # neutral: 2 Sr, 2 Ti, 6 O
    covariance = np.zeros((12, 12))
    shifts = shifts_of("Ti", (0.0, 0.01))
    found = polarisation(COLUMNS, charges, shifts, covariance, 1.0)
    volume = np.prod(COLUMNS.size_nm) * 1e-27
    expected = 2 * 4.0 * 1.602176634e-19 * 0.01e-9 / volume * 100.0  # uC/cm^2
    assert found.Py == pytest.approx(expected)
    assert found.Px == pytest.approx(0.0, abs=1e-12)
    moved = polarisation(COLUMNS, charges, shifts + 0.1, covariance, 1.0)
    assert moved.Py == pytest.approx(expected)
    charged = polarisation(COLUMNS, charges | {"Ti": 5.0}, shifts + 0.1, covariance, 1.0)
    still = polarisation(COLUMNS, charges | {"Ti": 5.0}, shifts, covariance, 1.0)
    assert charged.Py == pytest.approx(still.Py)


def test_a_crystal_without_oxygen_has_no_such_displacement():
    bare = dataclasses.replace(
        COLUMNS,
        chains=tuple(
            dataclasses.replace(c, symbol="S") if c.symbol == "O" else c for c in COLUMNS.chains
        ),
    )
    assert displacements(bare, np.zeros((6, 2)), np.zeros((12, 12)), 1.0) is None
