"""The stage that measures an MTF, on edges whose spread is known in closed form."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmarks.references.make_edge import edge_image, mtf
from qhrtem_jax.errors import InputError
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.knife_edge.edge import find_edge
from qhrtem_jax.knife_edge.problem import remarks
from qhrtem_jax.knife_edge.transfer import measure
from qhrtem_jax.pipeline import run
from qhrtem_jax.stages import run_settings
from tests import browser
from tests.runs import Quiet, computed, example_settings, prepared
from tests.schema import check

SHAPE = (160, 192)
ORDINARY = (0.5, 4.0, -12.3, 33.0, 44.0, 80.0, 97.0, 184.0, -80.0)
FRACTIONS = tuple(
    np.degrees(np.arctan2(*n)) for n in ((1, 3), (1, 4), (1, 5), (3, 5), (3, 4), (1, 8))
)
"""Slopes at which all pixels of a bin lie aside of its middle."""


def measured(image, reach_px=48.0):
    edge = find_edge(image)
    return edge, measure(image, edge, reach_px)


@pytest.mark.parametrize("angle", [*ORDINARY, *FRACTIONS])
def test_edges_of_every_direction_give_the_camera_s_mtf(angle):
    edge, found = measured(edge_image(SHAPE, angle))
    true, normal = mtf(found.frequency), np.radians(angle)
    square = np.sinc(found.frequency * np.cos(normal)) * np.sinc(found.frequency * np.sin(normal))
    np.testing.assert_allclose(found.pixel, square, rtol=1e-3)
    np.testing.assert_allclose(found.value / found.pixel, true, atol=0.006)
    np.testing.assert_array_less(np.abs(found.value - true * found.pixel)[1:], 2.0 * found.std[1:])
    # in the frame that it was turned to, the edge has the angle that it was made with
    inclined = -edge.angle_deg + 90.0 if edge.turned else edge.angle_deg
    assert abs((inclined - angle + 90.0) % 180.0 - 90.0) < 0.02
    assert edge.bright == pytest.approx(2100.0, rel=1e-3)
    assert edge.dark == pytest.approx(100.0, rel=1e-3)


@pytest.mark.parametrize("angle", [4.0, FRACTIONS[2]])
def test_its_errors_are_those_of_fresh_noise(angle):
    clean, pulls = edge_image(SHAPE, angle), []
    rng = np.random.default_rng(2)
    for _ in range(20):
        _, found = measured(rng.poisson(clean).astype(float))
        true = mtf(found.frequency) * found.pixel
        pulls.append(((found.value - true) / np.maximum(found.std, 1e-9))[16::16])
    rms = np.sqrt(np.mean(np.array(pulls) ** 2))
    assert 0.7 < rms < 1.4, rms
    assert abs(np.mean(pulls)) < 0.4


def test_a_pixel_twice_as_large_has_its_own_square():
    """Four pixels added are one: its MTF contains the larger square, at twice the frequency."""
    image = edge_image((320, 384), 5.0)
    large = image.reshape(160, 2, 192, 2).sum(axis=(1, 3))
    _, found = measured(large, 32.0)
    half = 0.5 * found.frequency  # of the small pixels
    normal = np.radians(5.0)
    square = np.sinc(2 * half * np.cos(normal)) * np.sinc(2 * half * np.sin(normal))
    np.testing.assert_allclose(found.value, mtf(half) * square, atol=0.006)


@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_the_unit_of_the_image_does_not_matter(scale):
    image = edge_image(SHAPE)
    _, found = measured(image)
    _, other = measured(scale * image)
    np.testing.assert_allclose(other.value, found.value, rtol=1e-6)


def told(image, reach_px=48.0):
    _, found = measured(image, reach_px)
    return " ".join(remarks(image, found, reach_px)), found


def test_what_spoils_an_mtf_is_said():
    rng = np.random.default_rng(3)
    counts = rng.poisson(edge_image(SHAPE)).astype(float)
    said, good = told(counts)
    assert said == ""
    assert "saturated" in told(np.minimum(counts, 1500.0))[0]
    slope = 1.0 + 0.1 * np.linspace(-0.5, 0.5, SHAPE[1])
    assert "the intensity still changes, by" in told(counts * slope)[0]
    sharpened = counts + 1.5 * (counts - gaussian_filter(counts, 2.0))
    assert "the MTF rises to" in told(sharpened)[0]
    # hot pixels are named, and do no harm
    hot = counts.copy()
    hot[rng.integers(0, SHAPE[0], 20), rng.integers(60, 130, 20)] = 30_000.0
    said, found = told(hot)
    assert "pixels stand out" in said
    np.testing.assert_allclose(found.value, good.value, atol=0.02)


def two_edges():
    image = edge_image(SHAPE)
    return np.where(np.arange(SHAPE[1]) > 150, 100.0, image)


def curved():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 100.0 + 2000.0 * (np.hypot(x - 96.0, y - 80.0) > 60.0)


def lattice():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 1000.0 + 300.0 * np.sin(x / 4.0) * np.sin(y / 5.0)


def bent():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 100.0 + 2000.0 * (x > 70.0 + (y / 16.0) ** 2 / 3.0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.random.default_rng(0).normal(1000.0, 30.0, SHAPE), "no single edge"),
        (np.full(SHAPE, 7.0), r"found one level \(7\)"),
        (lattice(), "no single edge"),
        (two_edges(), "no single edge"),
        (curved(), "no single edge"),
        (bent(), "scatters by .* about a straight line"),
        (edge_image(SHAPE, 0.0), "0.00 degrees to the pixels"),
        (edge_image(SHAPE, 45.0), "45.00 degrees to the pixels"),
    ],
)
def test_what_is_no_inclined_straight_edge_is_refused(image, message):
    with pytest.raises(InputError, match=message):
        measured(image)


def test_the_stage_writes_what_data_mtf_reads(tmp_path):
    terminal = Quiet()
    run(example_settings({"stage": "mtf"}), RunFolder(tmp_path / "run"), terminal)
    assert "at Nyquist" in terminal.said[-1]
    table = read_mtf(tmp_path / "run" / "mtf.csv", 1.0)
    at = np.linspace(0.0, 1.0, 40)
    np.testing.assert_allclose(table.at(at), mtf(0.5 * at), atol=0.04)
    for name in ("mtf", "edge"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").stat().st_size > 10_000
    browser.look_at(tmp_path / "run" / "report.html")


@pytest.mark.parametrize("pixel", ["apart", "included"])
def test_the_square_of_the_pixels_is_divided_out_where_asked(tmp_path, pixel):
    problem = prepared(example_settings({"stage": "mtf", "mtf": {"pixel": pixel}}, "mtf"))
    result, arrays = computed(problem, tmp_path / "run")
    check(result)
    square = arrays["pixel"] if pixel == "included" else 1.0
    pulls = (arrays["mtf"] - mtf(arrays["frequency"]) * square)[1:] / arrays["mtf_std"][1:]
    assert np.max(np.abs(pulls)) < 4.0
    assert result["pixel"] == pixel
    assert result["edge"]["angle_deg"] == pytest.approx(4.0, abs=0.05)
    assert len(result["mtf"]) == 17


def test_a_short_way_to_the_border_is_said_and_no_image_is_refused(tmp_path):
    image = edge_image(SHAPE)
    np.save(tmp_path / "edge.npy", image)
    data = {"image": str(tmp_path / "edge.npy"), "frame": [0, 60, 160, 60]}
    problem = prepared(run_settings({"stage": "mtf", "data": data}))
    assert any("is known up to" in warning for warning in problem.warnings)
    with pytest.raises(InputError, match=r"data\.image: none given"):
        prepared(run_settings({"stage": "mtf"}))
    np.save(tmp_path / "flat.npy", np.ones(SHAPE))
    with pytest.raises(
        InputError, match=r"data\.image: .*flat\.npy, or data\.frame of it: found one level"
    ):
        prepared(run_settings({"stage": "mtf", "data": {"image": str(tmp_path / "flat.npy")}}))
    with pytest.raises(InputError, match=r"memory_gb: found 0\.1 GiB"):
        prepared(run_settings({"stage": "mtf", "data": data, "memory_gb": 0.1}))
