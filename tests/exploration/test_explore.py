"""Stage `explore`, from an image to the way of the beam."""

import json

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.exploration.run import share_found
from qhrtem_jax.exploration.simulated import training_images
from qhrtem_jax.exploration.windows import windows_of
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.instrument import load_microscope
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.pipeline import run
from qhrtem_jax.stages import run_settings
from tests import browser
from tests.runs import Quiet, computed, example_settings, prepared
from tests.schema import check

SIDE = 160


def an_image():
    """(a lattice with a part of other periods, where that is)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    part = (y - 110) ** 2 + (x - 45) ** 2 < 22**2

    def waves(a, b):
        return np.cos(2 * np.pi * y / a) + np.cos(2 * np.pi * x / b)

    image = np.where(part, waves(7.0, 9.0), waves(8.0, 8.0))
    return 1.0 + 0.2 * image + 0.05 * np.random.default_rng(0).normal(size=image.shape), part


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    image, part = an_image()
    image[3, 5] = np.nan
    np.save(folder / "image.npy", image.astype(np.float32))
    np.save(folder / "truth.npy", part)
    return folder


def settings(files, data=None, **explore):
    known = {"points": 40, "window_px": 24, "truth": str(files / "truth.npy")} | explore
    data = {"image": str(files / "image.npy")} | (data or {})
    return run_settings({"stage": "explore", "data": data, "explore": known})


@pytest.fixture(scope="module")
def folder(files):
    class Terminal(Quiet):
        def say(self, text):
            pass

    path = files / "run"
    run(settings(files), RunFolder(path), Terminal())
    return path


def test_windows_of_few_periods_are_said(files):
    """Periods have eight pixels, but for those of a small part."""
    small = prepared(settings(files, window_px=15)).warnings
    assert any("15 pixels hold 1.8 of the lattice's longest periods" in said for said in small)
    assert not any("periods" in said for said in prepared(settings(files)).warnings)


def test_the_part_is_found_before_chance_would(folder, files):
    result = json.loads((folder / "result.json").read_text())
    check(result)
    known = result["explore"]
    assert (known["strongest"]["x_px"], known["strongest"]["y_px"]) == pytest.approx(
        (45, 110), abs=16
    )
    steps = known["steps"]
    assert [step["points"] for step in steps] == [1, 11, 21, 31, 40]
    arrays = np.load(folder / "arrays.npz")
    windows, truth = windows_of((SIDE, SIDE), 24), np.load(files / "truth.npy")
    rng = np.random.default_rng(0)
    chance = [
        share_found(truth, windows, rng.choice(len(windows.centres), 21, replace=False))
        for _ in range(30)
    ]
    assert steps[2]["found"] > np.mean(chance) + 1.5 * np.std(chance)
    assert steps[-1]["found"] > 0.9
    assert all(-1.0 <= step["ssim"] <= 1.0 for step in steps)
    # the steps are those of the points in the arrays
    points = arrays["points_px"]
    assert len(np.unique(points, axis=0)) == 40
    way = np.hypot(*np.diff(points, axis=0).T).sum()
    assert steps[-1]["way_px"] == pytest.approx(way)
    assert arrays["reconstruction"].shape == arrays["target"].shape == windows.shape
    missed = arrays["reconstruction"] - arrays["target"]
    assert np.std(missed) < 0.6 * np.std(arrays["target"])
    assert steps[-1]["uncertainty"] == pytest.approx(arrays["uncertainty"].mean(), rel=1e-4)


def test_its_page_shows_it(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") >= 4
    browser.look_at(folder / "report.html", ())


def test_what_is_found_lies_in_windows_of_points():
    truth = np.zeros((64, 64), dtype=bool)
    truth[0:8, 0:32] = True
    windows = windows_of((64, 64), 16)
    first = np.flatnonzero(np.all(windows.centres == 8, axis=1))
    assert share_found(truth, windows, first) == pytest.approx(16 / 32)
    assert share_found(truth, windows, np.arange(len(windows.centres))) == 1.0


def test_a_reference_region_says_what_is_looked_for(files):
    problem = prepared(settings(files, reference=[100, 35, 20, 20], points=2, components=3))
    result, arrays = computed(problem, files / "reference")
    assert "reference" in result["explore"]["why"]
    inside = problem.reference
    assert arrays["target"][inside].mean() > arrays["target"][~inside].mean() + 0.3


def test_columns_are_found_and_looked_at(tmp_path):
    """Nine times the embedded example, which is one cell: nothing is unusual there."""
    example = example_settings({"stage": "imaging"})
    assert example.data.image is not None
    assert example.data.frame is not None
    row, col, rows, cols = example.data.frame
    cell = np.load(example.data.image)[row : row + rows, col : col + cols]
    np.save(tmp_path / "tiled.npy", np.tile(cell, (3, 3)))
    content = {
        "stage": "explore",
        "data": {
            "image": str(tmp_path / "tiled.npy"),
            "sampling_nm": example.data.sampling_nm,
            "mtf": example.data.mtf,
        },
        "specimen": {"structure": example.specimen.structure, "scattering": "lobato"},
        "microscope": {"aberration_convention": "drprobe"},
        "explore": {
            "workflow": "atoms_rvae",
            "epochs": 10,
            "training_images": 20,
            "points": 2,
            "window_px": 24,
        },
    }
    result, arrays = computed(prepared(run_settings(content)), tmp_path / "run")
    check(result)
    assert result["cost"]["evaluations"] == 20
    found = arrays["columns_px"]
    assert len(found) == result["explore"]["columns"]["number"] > 30
    assert np.all((found >= -0.5) & (found < np.array(arrays["image"].shape) + 0.5))
    checkpoint = RunFolder(tmp_path / "run").read_checkpoint()
    assert checkpoint is not None
    assert {"atom_finder_standing", "autoencoder_standing"} <= set(checkpoint)


@pytest.mark.parametrize(
    ("explore", "message"),
    [
        ({"window_px": 100}, r"explore\.window_px: found 100, expected at most half.* 80 pixels"),
        ({"points": 5000}, r"explore\.points: found 5000, expected 2 to 1000"),
        ({"components": 5, "component": 7}, r"explore\.component: found 7, expected 0 to 4"),
        ({"component": 0, "reference": [0, 0, 9, 9]}, r"explore\.component: found one beside"),
        ({"reference": [0, 0, 2, 2]}, r"explore\.reference: found \[0, 0, 2, 2\]"),
        ({"kernel": "cosine"}, r"explore\.kernel: found 'cosine', expected one of matern52"),
        ({"workflow": "atoms_rvae"}, r"data\.sampling_nm: none given"),
    ],
)
def test_what_cannot_be_is_refused(files, tmp_path, explore, message):
    with pytest.raises(InputError, match=message):
        computed(prepared(settings(files, **explore)), tmp_path / "run")


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.zeros((SIDE, SIDE)), "marks no pixel"),
        (np.ones((SIDE, SIDE)), "marks all pixels"),
        (np.eye(20), r"has \[20, 20\] pixels, expected the image's \[160, 160\]"),
        (np.full((SIDE, SIDE), np.nan), "NaN"),
    ],
)
def test_a_truth_that_is_none_is_refused(files, tmp_path, truth, message):
    np.save(tmp_path / "truth.npy", truth)
    with pytest.raises(InputError, match=rf"explore\.truth: .*{message}"):
        prepared(settings(files, truth=str(tmp_path / "truth.npy")))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((80, 97), 0.3), "is flat"),
        (np.full((80, 97), np.nan), "no pixel that is a number"),
        (np.eye(20), "expected at least 32 a side"),
    ],
)
def test_images_without_anything_are_refused(files, tmp_path, image, message):
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(InputError, match=rf"data\.image: .*{message}"):
        prepared(settings(files, data={"image": str(tmp_path / "image.npy")}))


def test_few_windows_are_all_measured(files, tmp_path):
    problem = prepared(settings(files, window_px=80, points=900))
    assert any("are more than the" in warning for warning in problem.warnings)
    result, _ = computed(problem, tmp_path / "run")
    assert result["explore"]["steps"][-1]["points"] == len(problem.windows.centres) < 100
    assert result["explore"]["steps"][-1]["found"] == 1.0


def test_masked_pixels_are_not_looked_at(files, tmp_path):
    image = np.load(files / "image.npy")
    hidden = np.zeros((SIDE, SIDE), dtype=bool)
    hidden[20:40, 100:130] = True
    image[hidden] = 40.0
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "mask.npy", hidden)
    data = {"image": str(tmp_path / "image.npy"), "mask": str(tmp_path / "mask.npy")}
    problem = prepared(settings(files, data=data))
    assert problem.image.max() < 2.0


def test_training_images_know_where_their_columns_are(bto_dir):
    """Columns are bright, or dark, where the labels are: nowhere else within two pixels more."""
    content = {
        "stage": "explore",
        "data": {"image": str(bto_dir / "none.npy"), "sampling_nm": 0.02},
        "specimen": {"structure": str(bto_dir / "BTO110.cel")},
        "microscope": {"aberration_convention": "drprobe"},
    }
    known, reader = run_settings(content), Reader()
    crystal, microscope = load_crystal(known, reader), load_microscope(known, reader)
    space = parameter_space(known)
    found = training_images(known, space, crystal, microscope, (0.02, 0.02), 24)
    assert found.images.shape == found.maps.shape == (24, 64, 64)
    spectrum = np.fft.fft2(found.images) * np.conj(np.fft.fft2(found.maps))
    along = np.abs(np.fft.ifft2(spectrum).real)
    near = np.fft.fftshift(along, axes=(1, 2))[:, 30:35, 30:35].reshape(24, -1)
    at = np.stack(np.unravel_index(np.argmax(near, axis=1), (5, 5)), axis=1) - 2
    assert np.mean(np.all(at == 0, axis=1)) > 0.8
