"""Choice of regions, and imaging parameters handed over."""

import json

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.handover import imaging_vector, read_result
from qhrtem_jax.inputs.image import Experiment, averages, load_experiment
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.rois import choose_average, find_regions
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.stages import run_settings

NOISE = NoiseModel(1e-4)


def field():
    """Three rows of tiles: vacuum, then crystal of two kinds; the right column is stronger."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:36, 0:40]
    pattern = np.cos(2 * np.pi * x / 10) * np.cos(2 * np.pi * y / 6)
    strength = np.where(y < 12, 0.0, np.where(x < 20, 0.2, 0.3))
    return 1.0 + strength * pattern + 0.01 * rng.normal(size=y.shape)


def test_tiles_without_contrast_are_vacuum_and_others_are_numbered_down_the_columns():
    regions = find_regions(DataSettings(roi_shape=(12, 20)), field(), NOISE)
    assert [r.origin for r in regions] == [(12, 0), (24, 0), (12, 20), (24, 20)]
    assert [r.name for r in regions] == ["ROI1", "ROI2", "ROI3", "ROI4"]


def test_named_regions_are_taken_as_named():
    data = DataSettings(roi_shape=(12, 20), rois=((13, 1),))
    (region,) = find_regions(data, field(), None)
    np.testing.assert_array_equal(region.image, field()[13:25, 1:21])
    with pytest.raises(InputError, match=r"data\.rois"):
        find_regions(DataSettings(roi_shape=(12, 20), rois=((30, 1),)), field(), None)


def means(data, image, noise):
    return averages(data, Experiment(image, Frame(image.shape, (0.01, 0.01)), noise), Reader())


def test_the_regions_most_alike_are_averaged(caplog):
    rng = np.random.default_rng(1)
    image = np.concatenate([field(), rng.normal(1.0, 0.3, size=(12, 40))])
    regions = find_regions(DataSettings(roi_shape=(12, 20)), image, NOISE)
    with caplog.at_level("INFO"):
        chosen = choose_average(regions)
    assert len(chosen) == 3
    assert all(row < 36 for row, _ in chosen)  # not those of noise
    assert "most alike" in caplog.text


def test_several_means_are_lists_of_lists():
    data = DataSettings(roi_shape=(12, 20), average=(((12, 0),), ((24, 0), (24, 20))))
    assert means(data, field(), None) == [((12, 0),), ((24, 0), (24, 20))]
    one = DataSettings(roi_shape=(12, 20), average=((12, 0), (24, 0)))
    assert means(one, field(), None) == [((12, 0), (24, 0))]


@pytest.mark.parametrize("average", [((12, 0), (24, 0), (12, 0)), (((12, 0),), ((24, 0), (12, 0)))])
def test_a_region_named_twice_is_refused(average):
    data = DataSettings(roi_shape=(12, 20), average=average)
    with pytest.raises(InputError, match=r"data\.average: the region at \[12, 0\] is named twice"):
        means(data, field(), None)
    data = DataSettings(roi_shape=(12, 20), rois=((12, 0), (24, 0), (12, 0)))
    with pytest.raises(InputError, match=r"data\.rois: the region at \[12, 0\] is named twice"):
        find_regions(data, field(), None)


@pytest.mark.parametrize("shape", [(0, 0), (-12, 20), (12, 0), (4, 4)])
@pytest.mark.parametrize("which", [{"rois": "auto"}, {"average": "auto"}, {"rois": ((12, 0),)}])
def test_regions_without_pixels_are_refused(shape, which):
    data = DataSettings(roi_shape=shape, **which)
    find = means if "average" in which else find_regions
    with pytest.raises(InputError, match=r"data\.roi_shape: found .* at least 8 pixels"):
        find(data, field(), NOISE)


def test_a_region_without_contrast_is_refused():
    data = DataSettings(roi_shape=(12, 20), rois=((0, 0),))
    with pytest.raises(InputError, match=r"data\.rois \[0, 0\]: the image is constant"):
        find_regions(data, np.ones((36, 40)), None)


def experiment(tmp_path, **options):
    np.save(tmp_path / "field.npy", field())
    data = DataSettings(
        image=str(tmp_path / "field.npy"), sampling_nm=0.01, roi_shape=(12, 20), **options
    )
    reader = Reader()
    return load_experiment(data, reader), reader.warnings()


def test_regions_that_overlap_are_a_warning(tmp_path):
    _, warnings = experiment(tmp_path, noise_variance=1e-4, average=((12, 0), (24, 0)))
    assert not warnings
    _, warnings = experiment(tmp_path, noise_variance=1e-4, average=((12, 0), (23, 19)))
    (warning,) = warnings
    assert "1 pairs of regions overlap, as [12, 0] and [23, 19]" in warning


@pytest.mark.parametrize("variance", [0.0, -1.0, 1e300, 1e-320])
def test_noise_that_cannot_be_is_refused(variance):
    with pytest.raises(InputError, match=r"data\.noise_variance: found"):
        run_settings({"stage": "imaging", "data": {"noise_variance": variance}})


@pytest.mark.parametrize("frame", [(0, 0, 1, 1), (0, 0, 36, 7)])
def test_a_frame_of_a_few_pixels_is_refused(tmp_path, frame):
    with pytest.raises(InputError, match=r"data\.frame: found .* at least 8 x 8"):
        experiment(tmp_path, noise_variance=1e-4, frame=frame)


def settings(convention="haider"):
    return run_settings({"stage": "structure", "microscope": {"aberration_convention": convention}})


def test_parameters_are_handed_over_and_converted(tmp_path):
    content = {"parameters": {"C1": {"value": 4.2}, "B2_x": {"value": 9.0}}}
    (tmp_path / "result.json").write_text(json.dumps(content))
    found = imaging_vector(settings(), read_result(tmp_path, "imaging.result"), "it")
    assert found[INDEX["C1"]] == 4.2
    assert found[INDEX["B2_x"]] == 9.0  # no convention named: that of the run
    content["conventions"] = {"aberrations": "drprobe"}
    found = imaging_vector(settings(), content, "it")
    assert found[INDEX["B2_x"]] == pytest.approx(3.0)  # Haider's coma is a third of Dr. Probe's
    assert found[INDEX["C1"]] == pytest.approx(4.2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no `parameters`"),
        ({"parameters": {"C9": {"value": 1.0}}}, "unknown parameter 'C9'"),
        ({"parameters": {"C1": {"value": None}}}, "C1 is None"),
    ],
)
def test_what_cannot_be_handed_over_is_named(content, message):
    with pytest.raises(InputError, match=message):
        imaging_vector(settings(), content, "it")


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(InputError, match=r"imaging\.result: no result\.json"):
        read_result(tmp_path, "imaging.result")
    with pytest.raises(InputError, match=r"imaging\.result: no file"):
        read_result(tmp_path / "absent.json", "imaging.result")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="no readable JSON"):
        read_result(tmp_path / "bad.json", "imaging.result")
