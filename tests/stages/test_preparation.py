"""Stage `prepare`: from counts on rotated pixels to cells, and how the other stages take it."""

import dataclasses
import json
from importlib import resources

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.image import load_field
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.inputs.prepared import corners_of, wants_preparation, with_prepared
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.micrograph.cells import cells_of, on_cells
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.orientation import equal_slices, orient
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Crystal
from qhrtem_jax.pipeline import run
from qhrtem_jax.preparation.origin import find_origin
from qhrtem_jax.reporting.column_tables import Column, Count, in_file
from qhrtem_jax.stages import STAGES, run_settings
from tests import browser
from tests.physics import crystal as sto
from tests.physics.test_orientation import GAN
from tests.runs import Quiet
from tests.schema import check

ANGLE, SAMPLING, ORIGIN = 2.6, 0.0091, np.array([23.4, 96.0])
SHAPE, VACUUM_ROWS, LEVEL = (330, 300), 84, 1520.0
SIZE = (sto.A * 2**0.5, sto.A)
HOT = ((12, 33), (200, 150), (290, 20))
EXAMPLE = resources.files("qhrtem_jax").joinpath("example")
CELL = str(EXAMPLE / "SrTiO3_110.cel")


def lattice():
    turn = np.radians(ANGLE)
    a = np.array([np.cos(turn), -np.sin(turn)]) * SIZE[0] / SAMPLING
    b = np.array([np.sin(turn), np.cos(turn)]) * SIZE[1] / SAMPLING
    return np.array([a, b])


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory):
    return counted(tmp_path_factory.mktemp("micrograph") / "counts.tif")


def counted(path, aspect=1.0):
    """Counts of a crystal that fills the image below a vacuum, turned against the pixels, whose
    height is `aspect` times their width."""
    fine = simulated((96, 128), thickness=14, C1=5.0, A1_x=1.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    share = (np.stack([x, aspect * y], axis=-1) - ORIGIN) @ np.linalg.inv(lattice())
    rows, cols = fine.shape
    places = np.stack([share[..., 1] * rows, share[..., 0] * cols])
    image = map_coordinates(fine, places, order=5, mode="grid-wrap")
    image = np.where(y < VACUUM_ROWS, 1.0, image)
    noise = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 0.7)
    counts = LEVEL * (image + 0.013 * noise / noise.std())
    for row, col in HOT:
        counts[row, col] = 65000.0
    tifffile.imwrite(
        path,
        np.clip(counts, 0, 65000).astype(np.uint16),
        imagej=True,
        resolution=(1 / (1.02 * SAMPLING), 1 / (1.02 * aspect * SAMPLING)),
        metadata={"unit": "nm"},
    )
    return path


def simulated(shape, **values):
    """One cell of the example's crystal, by its own pixels."""
    settings = run_settings({"stage": "prepare", "specimen": {"structure": CELL}})
    crystal = load_crystal(settings, Reader())
    frame = Frame(shape, (crystal.size_nm[1] / shape[0], crystal.size_nm[0] / shape[1]))
    simulator = make_simulator(
        crystal, Microscope(), frame, grid_shape=(64, 96), slices=20, precision="float64"
    )
    return np.asarray(simulator.images(sto.vector(**values)[None])[0])


def settings_of(image, stage="prepare", **data):
    return run_settings(
        {
            "stage": stage,
            "data": {"image": str(image), **data},
            "specimen": {"structure": CELL, "grid_error": 1e-3},
        }
    )


@pytest.fixture(scope="module")
def prepared(micrograph, tmp_path_factory):
    """(result, folder) of a run, as any other."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared") / "run")
    run(settings_of(micrograph), folder, Quiet())
    content = folder.read_result()
    check(content)
    return content, folder.path


def test_lattice_sampling_vacuum_and_bad_pixels(prepared):
    result, _ = prepared
    found, true = result["lattice"], lattice()
    np.testing.assert_allclose([found["a_px"], found["b_px"]], true, atol=0.1)
    assert found["angle_deg"] == pytest.approx(ANGLE, abs=0.05)
    assert found["sampling_nm"][0] == pytest.approx(SAMPLING, rel=1.5e-3)
    assert found["file_sampling_nm"][0] == pytest.approx(1.02 * SAMPLING, rel=1e-3)
    assert result["vacuum"]["level"] == pytest.approx(LEVEL, rel=2e-3)
    assert result["vacuum"]["noise_variance"] == pytest.approx(0.013**2, rel=0.15)
    assert abs(result["vacuum"]["noise_growth"]) < 4.0 * result["vacuum"]["std_noise_growth"] < 0.8
    assert result["bad_pixels"] == len(HOT)
    assert any("the sampling of the file" in warning for warning in result["warnings"])


def test_cells_begin_where_the_crystal_does(prepared):
    result, _ = prepared
    true = lattice()
    corners = np.array([roi["corners_px"] for roi in result["rois"]])
    share = (corners[:, 0] - ORIGIN) @ np.linalg.inv(true)
    off = (share - np.rint(share)) @ true
    # the crystal repeats after half a cell along x and half of one along the beam
    half = off - np.rint(off @ np.linalg.inv(true) * [2, 1]) / [2, 1] @ true
    assert np.abs(half).max() < 1.0
    edges = corners[:, [1, 3]] - corners[:, [0]]
    np.testing.assert_allclose(edges, np.broadcast_to(true, edges.shape), atol=0.1)
    np.testing.assert_allclose(corners[:, 2] - corners[:, 0], edges.sum(axis=1), atol=1e-6)
    # every whole cell that lies half a cell inside the crystal
    expected = 0
    for i in range(-2, 9):
        for j in range(-2, 8):
            first = corners[0, 0] + i * true[1] + j * true[0]
            cell = np.array([first, first + true[0], first + true.sum(0), first + true[1]])
            inside = cell[:, 0].min() > 30 and cell[:, 0].max() < SHAPE[1] - 30
            inside &= cell[:, 1].min() > VACUUM_ROWS + 22 and cell[:, 1].max() < SHAPE[0] - 22
            if inside:
                expected += 1
                assert np.abs(corners[:, 0] - first).sum(axis=1).min() < 1.0
    assert expected >= 6


@pytest.mark.parametrize("turned", [False, True])
def test_a_crystal_may_stand_either_way(turned):
    """GaN along [11-20] is another crystal upside down; the image of its cells, drawn from where it
    is found to begin, is that of the cell."""
    oriented = orient(GAN, (1, 1, 0), (0, 0, 1), 0.005)
    slices = equal_slices(oriented.atoms.positions[:, 2], oriented.lengths_nm[2])[0]
    crystal = Crystal(oriented.lengths_nm, oriented.atoms, slices)
    shape = (52, 32)
    frame = Frame(shape, (crystal.size_nm[1] / shape[0], crystal.size_nm[0] / shape[1]))
    simulator = make_simulator(
        crystal, Microscope(), frame, grid_shape=(72, 44), image_shape=(40, 24), slices=16
    )
    truth = sto.vector(thickness=10, C1=4.0, A1_x=1.0)
    upright = np.asarray(simulator.images(truth[None].astype(np.float32))[0], float)
    moved = np.roll(upright, (9, 5), axis=(0, 1))
    noise = 0.01 * np.random.default_rng(0).normal(size=shape)
    image = (moved[::-1, ::-1] if turned else moved) + noise
    parameters = {"thickness": {"low": 4, "high": 16}, "C1": {"low": 0, "high": 8}}
    settings = run_settings({"stage": "prepare", "parameters": parameters})
    found = find_origin(
        image,
        image[None],
        simulator,
        parameter_space(settings),
        both_ways=True,
        translations=np.zeros((0, 2)),
    )
    assert found.turned == turned
    vectors = np.array([[shape[1], 0.0], [0.0, shape[0]]])
    cells = cells_of(-vectors if turned else vectors, found.shift @ vectors)
    seen = on_cells(np.tile(image, (3, 3)), cells, (0, 0), (1, 1)).image
    assert np.corrcoef(seen.ravel(), upright.ravel())[0, 1] > 0.985
    assert found.ncc > 0.98


def test_translations_of_the_projection_are_tried():
    """Half a cell along x and half of one along the beam bring the crystal onto itself: in whole
    repeats along the beam hardly anything tells the two places apart."""
    crystal = load_crystal(settings_of("none"), Reader())
    shape = (40, 56)
    frame = Frame(shape, (crystal.size_nm[1] / shape[0], crystal.size_nm[0] / shape[1]))
    simulator = make_simulator(
        crystal, Microscope(), frame, grid_shape=(48, 64), image_shape=(28, 40), slices=16
    )
    vector = sto.vector(thickness=16, C1=5.0)[None].astype(np.float32)
    image = np.roll(np.asarray(simulator.images(vector)[0], float), (6, 3), axis=(0, 1))
    image += 0.01 * np.random.default_rng(0).normal(size=shape)
    parameters = {"thickness": {"low": 4, "high": 16}, "C1": {"low": 0, "high": 8}}
    space = parameter_space(run_settings({"stage": "prepare", "parameters": parameters}))
    half = np.array([[0.5, 0.0]])
    found = find_origin(image, image[None], simulator, space, both_ways=False, translations=half)
    assert len(found.misfits) == 2
    assert max(found.misfits) < 2.0 * min(found.misfits)
    x, y = found.shift * np.array(shape[::-1]) - [3, 6]
    assert y == pytest.approx(0.0, abs=0.5)
    assert abs(x - 28 * round(x / 28)) < 0.5


def test_pixels_need_not_be_square(tmp_path):
    aspect = 1.1
    folder = RunFolder(tmp_path / "run")
    run(settings_of(counted(tmp_path / "counts.tif", aspect)), folder, Quiet())
    result, true = folder.read_result(), lattice() / np.array([1.0, aspect])
    check(result)
    found = result["lattice"]
    np.testing.assert_allclose([found["a_px"], found["b_px"]], true, atol=0.1)
    assert found["angle_deg"] == pytest.approx(ANGLE, abs=0.05)
    np.testing.assert_allclose(found["sampling_nm"], [aspect * SAMPLING, SAMPLING], rtol=1.5e-3)
    corners = np.array([roi["corners_px"][0] for roi in result["rois"]])
    off = (corners - ORIGIN / [1.0, aspect]) @ np.linalg.inv(true) * [2, 1]  # as above
    assert np.abs((off - np.rint(off)) / [2, 1] @ true).max() < 1.0
    prepared = result["prepared"]
    assert prepared["roi_shape"] == [39, 61]
    np.testing.assert_allclose(prepared["sampling_nm"], [aspect * SAMPLING, SAMPLING], rtol=0.01)
    assert prepared["pixel_ratio"] == pytest.approx(1.0, abs=0.01)  # pixels are as large as before


def test_other_stages_take_the_folder(prepared, micrograph):
    result, path = prepared
    settings = settings_of(micrograph, "reconstruct", prepared=str(path))
    reader = Reader()
    chosen = with_prepared(settings, reader)
    field = load_field(chosen.data, reader)
    assert field.image.shape == np.load(path / "arrays.npz")["image"].shape
    assert list(chosen.data.roi_shape) == result["prepared"]["roi_shape"]
    # noise is carried along: a spline between pixels smooths it a little
    assert field.noise.variance == pytest.approx(result["vacuum"]["noise_variance"], rel=0.3)
    assert with_prepared(chosen, reader) == chosen  # once is enough
    twice = dataclasses.replace(settings.data, mtf_scale=2.0)
    assert with_prepared(
        dataclasses.replace(settings, data=twice), reader
    ).data.mtf_scale == pytest.approx(2.0 * chosen.data.mtf_scale)
    assert chosen.data.mtf_scale == pytest.approx(
        result["lattice"]["sampling_nm"][0] / np.sqrt(np.prod(result["prepared"]["sampling_nm"])),
        rel=1e-6,
    )
    # each region, drawn on its own pixels, is a cell of the crystal
    rows, cols = result["prepared"]["roi_shape"]
    cells = [
        field.image[r : r + rows, c : c + cols]
        for r, c in (roi["origin_px"] for roi in result["rois"])
    ]
    flat = np.array([(c - c.mean()).ravel() for c in cells])
    assert np.corrcoef(flat).min() > 0.97
    corners = corners_of(chosen.data, [tuple(roi["origin_px"]) for roi in result["rois"]], reader)
    np.testing.assert_allclose(corners, [roi["corners_px"] for roi in result["rois"]])
    assert corners_of(dataclasses.replace(chosen.data, prepared=None), [(0, 0)], reader) == [None]
    elsewhere = path.parent / "other"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "result.json").write_text(json.dumps({"stage": "imaging"}))
    other = settings_of(micrograph, "reconstruct", prepared=str(elsewhere))
    with pytest.raises(InputError, match=r"result.json was written by no run"):
        with_prepared(other, Reader())


def test_a_stage_prepares_by_itself(micrograph, tmp_path):
    """As the command line runs it: settings are told as they were given, and repeat the run."""
    short = {"name": "lm", "starts": 1, "max_iterations": 3}
    few = {name: {"free": False} for name in ("C3", "C5", "A3_x", "A3_y", "S3_x", "S3_y")}
    content = {"stage": "imaging", "optimizer": short, "parameters": few}
    settings = dataclasses.replace(
        settings_of(micrograph, "imaging"),
        optimizer=run_settings(content).optimizer,
        parameters=run_settings(content).parameters,
    )
    folder, terminal = RunFolder(tmp_path / "run"), Quiet()
    run(settings, folder, terminal)
    result = folder.read_result()
    check(result)
    assert result["settings"]["data"]["image"] == str(micrograph)
    assert result["settings"]["data"]["rois"] is None
    assert result["input"]["files"]["data.image"]["name"] == micrograph.name
    assert any("prepared first" in warning for warning in result["warnings"])
    assert result["verdict"]["word"] in terminal.said[-1]
    rows, cols = np.load(folder.path / "arrays.npz")["experiment"].shape
    assert (rows, cols) == (43, 61)
    assert (folder.path / "prepare" / "figures" / "cells.png").is_file()
    # what is there is not done again
    run(dataclasses.replace(settings, resume=True), RunFolder(tmp_path / "run"), Quiet())
    browser.look_at(folder.path / "prepare" / "report.html", ("cells",))


def test_when_an_image_has_to_be_prepared(micrograph, tmp_path):
    assert wants_preparation(settings_of(micrograph, "pipeline"), Reader())
    assert not wants_preparation(settings_of(micrograph, "pipeline", roi_shape=[43, 61]), Reader())
    one, several = tmp_path / "one.npy", tmp_path / "several.npy"
    rng = np.random.default_rng(0)
    np.save(one, 1.0 + 0.1 * rng.normal(size=(43, 61)))
    np.save(several, 1.0 + 0.1 * rng.normal(size=(130, 130)))
    assert not wants_preparation(settings_of(one, "imaging", sampling_nm=0.0091), Reader())
    assert wants_preparation(settings_of(several, "imaging", sampling_nm=0.0091), Reader())
    assert wants_preparation(settings_of(several, "imaging"), Reader())
    np.save(one, 1000.0 + rng.normal(size=(43, 61)))
    assert wants_preparation(settings_of(one, "imaging", sampling_nm=0.0091), Reader())
    assert not wants_preparation(
        settings_of(one, "imaging", sampling_nm=0.0091, counts=False), Reader()
    )


def test_places_in_the_file():
    corners = np.array([[10.0, 20.0], [70.0, 18.0], [72.0, 60.0], [12.0, 62.0]])
    counts = (Count("O", 0.25, 0.5, 3, {"3": 1.0}),)
    columns = (Column(0.25, 0.5, 55.0, -39.0, None, None, {}),)
    found, moved = in_file(counts, columns, corners, (0.55, 0.39, 0.55))
    assert (found[0].x_px, found[0].y_px) == pytest.approx((10 + 15 + 1, 20 - 0.5 + 21))
    assert moved[0].x_px == pytest.approx(26 + 0.1 * 60 - 0.1 * 2)
    assert moved[0].y_px == pytest.approx(40.5 - 0.1 * 2 - 0.1 * 42)


def test_what_cannot_be_prepared_is_said(micrograph, tmp_path):
    full = tmp_path / "full.npy"
    y, x = np.mgrid[:200, :200]
    lively = 900.0 * (1 + 0.3 * np.cos(x / 5.0) * np.cos(y / 5.0))
    np.save(full, lively + np.random.default_rng(0).normal(size=(200, 200)))
    with pytest.raises(InputError, match=r"data.vacuum: none given, and none was found"):
        STAGES["prepare"].prepare(settings_of(full), Reader())
    np.save(tmp_path / "mask.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match=r"data.mask: .*mask.npy has shape \[3, 4\], expected"):
        STAGES["prepare"].prepare(
            settings_of(micrograph, mask=str(tmp_path / "mask.npy")), Reader()
        )
    with pytest.raises(InputError, match=r"found 0.009 nm along rows and 0.09 along columns .* 2 "):
        STAGES["prepare"].prepare(settings_of(micrograph, sampling_nm=[0.009, 0.09]), Reader())
    image = np.full((60, 60), 1000.0)
    image[::3, ::3] = np.nan
    np.save(full, image)
    with pytest.raises(InputError, match=r"has 400 bad pixels of 3600, expected at most 1 %"):
        STAGES["prepare"].prepare(settings_of(full), Reader())
