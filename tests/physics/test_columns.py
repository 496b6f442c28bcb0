"""Columns of atoms: geometry, derivatives, and the field that is made of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of, repeat_columns, sites_of
from qhrtem_jax.physics.field import FieldState, make_field
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.specimen import Atoms, Crystal
from qhrtem_jax.physics.structured import make_structured, moved_plane
from qhrtem_jax.refine.jacobian import structured_jacobian
from tests import drprobe, truth
from tests.physics import crystal as sto

COLUMNS = columns_of(sto.crystal())
GRID = (48, 64)


def structured(cells=5, fill="entrance", frame=sto.FRAME, grid=GRID, **options):
    return make_structured(
        COLUMNS,
        sites_of(COLUMNS, cells, fill),
        Microscope(mtf=sto.MTF),
        frame,
        grid_shape=grid,
        image_shape=grid,
        **({"precision": "float64"} | options),
    )


def point(simulator, counts, shifts=None, **values):
    layout = simulator.layout
    shifts = np.zeros((layout.columns, 2)) if shifts is None else shifts
    vector = sto.vector(**values)
    return jnp.asarray(layout.point(vector, shifts, counts, np.ones(layout.chains)))


def test_atoms_are_grouped_into_columns_and_chains():
    assert len(COLUMNS.xy) == 6
    assert sorted((c.symbol, len(c.slices)) for c in COLUMNS.chains) == [
        ("O", 1),
        ("O", 1),
        ("O", 2),
        ("O", 2),
        ("Sr", 1),
        ("Sr", 1),
        ("Ti", 1),
        ("Ti", 1),
    ]
    np.testing.assert_array_equal(COLUMNS.numbers_of_slices(8), COLUMNS.most_atoms(2))


@pytest.mark.parametrize(
    ("fill", "first", "last"), [("entrance", 0, 8), ("exit", 12, 20), ("centre", 6, 14)]
)
def test_chains_fill_from_where_they_are_told(fill, first, last):
    sites = sites_of(COLUMNS, 5, fill)
    found = sites.extent(COLUMNS.most_atoms(2))
    assert abs(int(found[0]) - first) <= 1
    assert abs(int(found[1]) - last) <= 1
    assert sites.per_slice(COLUMNS.most_atoms(2)).sum() == 20


def rolled(first):
    """The crystal of the tests, beginning with its slice `first`."""
    whole = sto.crystal()
    places = whole.atoms.positions - np.array([0.0, 0.0, first / whole.slices])
    atoms = dataclasses.replace(whole.atoms, positions=np.mod(places, 1.0))
    return columns_of(dataclasses.replace(whole, atoms=atoms))


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_later_entrance_is_a_crystal_that_begins_with_another_plane(first):
    """Which ends so many slices earlier: the wave goes on for as long."""
    counts = np.array([3.0, 4.0, 2.4, 3.0, 4.0, 3.7, 6.0, 7.0])
    options = {"grid_shape": GRID, "image_shape": GRID, "precision": "float64"}
    images = []
    for columns, entrance in ((COLUMNS, first), (rolled(first), 0)):
        assert [(c.symbol, c.column) for c in columns.chains] == [
            (c.symbol, c.column) for c in COLUMNS.chains
        ]
        sites = sites_of(columns, 5, entrance=entrance)
        assert sites.extent(np.rint(counts))[0] == entrance + sites_of(columns, 5).extent(
            np.rint(counts)
        )[0] * (entrance == 0)
        simulator = make_structured(columns, sites, Microscope(mtf=sto.MTF), sto.FRAME, **options)
        further = first - entrance
        vector = moved_plane(sto.vector(tilt_x=2.0, tilt_y=-1.0), further * columns.slice_nm)
        layout = simulator.layout
        shifts, occupied = np.zeros((layout.columns, 2)), np.ones(layout.chains)
        images.append(simulator.image(jnp.asarray(layout.point(vector, shifts, counts, occupied))))
    np.testing.assert_allclose(images[0], images[1], atol=1e-3)  # the source sees the vacuum
    assert np.std(images[0] - point_image(counts)) > 1e-2


def point_image(counts):
    """The image of the crystal as it is."""
    simulator = structured()
    return simulator.image(point(simulator, counts))


def test_columns_behind_a_later_entrance_have_no_gaps():
    whole = sto.crystal()
    atoms = dataclasses.replace(
        whole.atoms,
        symbols=("O",) * 3,
        positions=np.array([[0.5, 0.5, z] for z in (0.1, 0.35, 0.85)]),
        occupancy=np.ones(3),
        b_nm2=np.full(3, 0.005),
    )
    columns = columns_of(Crystal(whole.size_nm, atoms, 4))
    sites = sites_of(columns, 3, entrance=2)
    for count in range(1, 10):
        taken = np.sort(np.flatnonzero(sites.occupied(np.array([count]))))
        assert np.all(np.diff(taken) == 1), taken
        assert taken[0] == sites.starts(np.array([float(count)]))[0]


def test_chains_behind_a_later_entrance_start_at_their_first_free_site():
    sites = sites_of(COLUMNS, 5, entrance=1)
    counts = np.array([2.4, 3.0, 1.0, 4.0, 4.0, 3.7, 6.0, 7.5])
    skipped = [chain.slices[0] < 1 for chain in COLUMNS.chains]
    assert 0 < sum(skipped) < len(skipped)
    np.testing.assert_allclose(sites.starts(counts), np.array(skipped, float), atol=1e-12)
    with pytest.raises(InputError, match="entrance: found 4, expected 0 to 3"):
        sites_of(COLUMNS, 5, entrance=4)
    with pytest.raises(InputError, match="entrance: found 1"):
        sites_of(COLUMNS, 5, "exit", 1)


def test_an_unknown_fill_is_refused():
    with pytest.raises(InputError, match=r"fill.*'top'"):
        sites_of(COLUMNS, 2, "top")


def test_sites_keep_the_heights_of_their_atoms():
    moved = sto.crystal()
    z = moved.atoms.positions[:, 2] + 0.07
    positions = np.column_stack([moved.atoms.positions[:, :2], z])
    atoms = dataclasses.replace(moved.atoms, positions=positions)
    columns = columns_of(dataclasses.replace(moved, atoms=atoms))
    sites = sites_of(columns, 3)
    np.testing.assert_array_equal(np.floor(columns.slices * sites.z), sites.slice)
    for k, chain in enumerate(columns.chains):
        found = sites.z[sites.chain == k]
        np.testing.assert_allclose(found[: len(chain.z)], chain.z)
        np.testing.assert_allclose(np.mod(found - 0.07 + 1e-9, 0.25), 0.0, atol=1e-8)


def test_heights_typed_with_few_digits_stay_in_their_slice():
    atoms = Atoms(
        ("O", "O"), np.array([[0, 0, 0.333333], [0, 0, 0.666666]]), np.ones(2), np.full(2, 0.005)
    )
    columns = columns_of(Crystal((0.4, 0.4, 0.6), atoms, 3))
    sites = sites_of(columns, 10)
    np.testing.assert_array_equal(np.floor(3 * sites.z + 1e-12), sites.slice)


def test_full_columns_are_the_crystal():
    whole = structured()
    vector = jnp.asarray(sto.vector(thickness=20, tilt_x=2.0, C1=4.0))
    reference = sto.simulator().image(vector)
    image = whole.image(point(whole, COLUMNS.most_atoms(5), tilt_x=2.0, C1=4.0))
    np.testing.assert_allclose(image, reference, atol=1e-12)


def test_vacuum_behind_the_last_atom_is_defocus_and_the_shift_of_the_tilt():
    counts, tilt = COLUMNS.most_atoms(3), np.array([3.0, -2.0])
    short, long = structured(cells=3), structured(cells=5)
    gap = 2 * COLUMNS.size_nm[2]
    reference = short.image(point(short, counts, tilt_x=tilt[0], tilt_y=tilt[1], C1=5.0))
    image = long.image(
        point(
            long,
            counts,
            tilt_x=tilt[0],
            tilt_y=tilt[1],
            C1=5.0 - gap,
            A0_x=gap * tilt[0] * 1e-3,
            A0_y=gap * tilt[1] * 1e-3,
        )
    )
    np.testing.assert_allclose(image, reference, atol=1e-3)
    wrong = long.image(point(long, counts, tilt_x=tilt[0], tilt_y=tilt[1], C1=5.0))
    assert np.sqrt(np.mean((wrong - reference) ** 2)) > 0.01


def test_moving_every_column_moves_the_image():
    simulator = structured()
    shift = np.array([0.011, -0.007])
    counts = COLUMNS.most_atoms(4)
    moved = simulator.image(point(simulator, counts, np.tile(shift, (6, 1))))
    reference = simulator.image(point(simulator, counts, A0_x=shift[0], A0_y=shift[1]))
    # the atoms move under the specimen's grid, the image under the camera's: band limits differ
    np.testing.assert_allclose(moved, reference, atol=2e-4)


def test_jacobian_of_positions_numbers_and_occupancies_agrees_with_finite_differences():
    simulator = structured()
    rng = np.random.default_rng(0)
    layout = simulator.layout
    counts = COLUMNS.most_atoms(4) - rng.uniform(0.2, 1.8, layout.chains)
    here = simulator.layout.point(
        sto.vector(tilt_x=1.0), 0.01 * rng.normal(size=(6, 2)), counts, np.full(8, 0.9)
    )
    free = (INDEX["C1"], INDEX["absorption"], *range(layout.shifts.start, layout.size))
    _, jacobian = jax.jit(lambda p: structured_jacobian(simulator, p, free))(jnp.asarray(here))
    image = jax.jit(lambda p: simulator.image(p))
    for k, index in enumerate(free):
        step = 1e-5
        up, down = here.copy(), here.copy()
        up[index] += step
        down[index] -= step
        numeric = (image(jnp.asarray(up)) - image(jnp.asarray(down))) / (2 * step)
        assert np.max(np.abs(numeric)) > 1e-4
        np.testing.assert_allclose(jacobian[k], numeric, atol=2e-6 * np.max(np.abs(numeric)) + 1e-9)


def field_of(shape, counts, starts, shifts, imaging, absorption=0.02):
    cells = shape[0] * shape[1]
    return FieldState(
        jnp.asarray(imaging),
        jnp.asarray(np.broadcast_to(counts, (cells, 8)).astype(float)),
        jnp.asarray(np.broadcast_to(starts, (cells, 8)).astype(float)),
        jnp.asarray(np.broadcast_to(shifts, (cells, 6, 2)).astype(float)),
        jnp.ones((cells, 8)),
        jnp.full(cells, absorption),
        jnp.zeros(2),
    )


def test_a_field_of_equal_cells_is_the_periodic_cell():
    rng = np.random.default_rng(1)
    shifts, counts = 0.005 * rng.normal(size=(6, 2)), COLUMNS.most_atoms(4) - 1.0
    imaging = sto.vector(tilt_y=1.5, absorption=0.02)
    frame = Frame((50, 70), (0.0093, 0.0095), (0.1, 0.2))
    cell = structured(frame=frame)
    reference = cell.image(point(cell, counts, shifts, tilt_y=1.5, absorption=0.02))
    field = make_field(
        COLUMNS,
        (2, 2),
        5,
        Microscope(mtf=sto.MTF),
        frame,
        grid_shape=GRID,
        image_shape=GRID,
        precision="float64",
    )
    image = field.image(field_of((2, 2), counts, 0.0, shifts, imaging))
    # sums over the supercell's larger grid round differently, nothing else does
    np.testing.assert_allclose(image, reference, atol=1e-10)


def test_a_field_puts_every_cell_in_its_place():
    whole = repeat_columns(COLUMNS, 2, 3)
    assert whole.size_nm[0] == pytest.approx(3 * COLUMNS.size_nm[0])
    np.testing.assert_allclose(
        whole.xy_nm[6 * 4 : 6 * 5],
        COLUMNS.xy_nm + np.array([COLUMNS.size_nm[0], COLUMNS.size_nm[1]]),
    )
    frame = Frame((80, 110), (0.01, 0.01))
    field = make_field(
        COLUMNS,
        (2, 2),
        3,
        Microscope(mtf=sto.MTF),
        frame,
        grid_shape=GRID,
        image_shape=(32, 48),
        precision="float64",
    )
    counts = np.zeros((4, 8))
    counts[1] = COLUMNS.most_atoms(2)  # row 0, column 1: the right half of the upper half
    image = np.asarray(field.image(field_of((2, 2), counts, 0.0, 0.0, sto.vector(C1=6.0))))
    contrast = (image - 1.0) ** 2
    # its columns lie on the cell's edges too, so some contrast wraps around
    assert contrast[48:70].sum() < 0.03 * contrast.sum()
    assert contrast[:, 10:44].sum() < 0.03 * contrast.sum()


def test_numbers_of_atoms_as_dr_probe_images_them(reference_dir, bto_dir):
    experiments = np.load(reference_dir / "drprobe_experiments.npz")
    columns = columns_of(read_structure(bto_dir / "BTO110.cel", 4))
    sites = sites_of(columns, 7)
    microscope = Microscope(
        aberration_convention="drprobe",
        mtf=read_mtf(bto_dir / "MTF-US2k-300.mtf", 1.068),
        compatibility="drprobe",
    )
    simulator = make_structured(
        columns,
        sites,
        microscope,
        Frame((45, 64), (0.00887, 0.00887)),
        grid_shape=(90, 128),
        image_shape=(90, 128),
    )
    order = truth.chain_order(columns, experiments["column_order"])
    for k, clean in enumerate(experiments["columns_clean"]):
        record = str(experiments["columns_truth"][k])
        known = json.loads(record)
        counts = np.zeros(8)
        counts[order] = known["counts"]
        last = int(sites.extent(counts)[1])
        assert last == known["exit_slice"]
        vector = drprobe.vector_of_record(record)
        surplus = (sites.stack - last) * columns.slice_nm
        vector[INDEX["C1"]] -= surplus
        for axis in ("x", "y"):
            vector[INDEX[f"A0_{axis}"]] += surplus * vector[INDEX[f"tilt_{axis}"]] * 1e-3
        here = simulator.layout.point(vector, np.zeros((6, 2)), counts, np.ones(8))
        image = simulator.image(jnp.asarray(here, jnp.float32))
        # what is left is the surplus vacuum, which C1 and A0 replace but for the obliquity
        assert np.sqrt(np.mean((np.asarray(image) - clean) ** 2)) < 5e-4


def test_a_synthetic_field_of_an_independent_multislice(reference_dir, bto_dir):
    content = np.load(reference_dir / "synthetic_field.npz")
    known = json.loads(str(content["truth"][0]))
    columns = columns_of(read_structure(bto_dir / "BTO110.cel", 4))
    field = make_field(
        columns,
        (8, 6),
        8,
        Microscope(
            aberration_convention="drprobe", mtf=read_mtf(bto_dir / "MTF-US2k-300.mtf", 1.068)
        ),
        Frame((225, 256), (0.00887, 0.00887)),
        grid_shape=(40, 54),
        image_shape=(36, 48),
    )
    image = np.asarray(field.image(truth.field_state(columns, known, (8, 6))))
    # away from the cells beyond the frame, which nobody knows
    inner = (slice(60, 160), slice(70, 190))
    assert np.sqrt(np.mean((image - content["clean"][0])[inner] ** 2)) < 1e-3
