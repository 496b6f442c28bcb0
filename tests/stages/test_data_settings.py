"""Regions, frames and noise of any numbers: finite images and noise, or a message."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.frames import frames_of
from qhrtem_jax.inputs.image import averages, load_experiment, load_field
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.rois import find_regions
from qhrtem_jax.stages import run_settings

whole = st.integers(-3, 45) | st.sampled_from([0, -1, 2**31, 2**63, -(2**63), 10**30])
number = st.floats() | st.sampled_from([0.0, -1.0, 1e300, 5e-324, 1e-3])
pair, region = st.tuples(whole, whole), st.tuples(whole, whole, whole, whole)
small = st.tuples(st.integers(6, 14), st.integers(6, 14))
origin = st.tuples(st.integers(0, 30), st.integers(0, 30))
origins = st.lists(pair, max_size=3) | st.lists(origin, max_size=4)


GOOD = {
    "shape": [None, (40, 40)],
    "frame": [None, (2, 3, 32, 36)],
    "roi_shape": [(10, 12)],
    "rois": [None, "auto", ((0, 0), (12, 3))],
    "average": [None, "auto", ((0, 0), (12, 3)), (((0, 0), (5, 5)), ((20, 3),))],
    "vacuum": [None, (0, 0, 10, 20)],
    "noise_variance": [None, 1e-4],
    "noise_correlation": [None, (0.5, 0.2)],
    "noise_growth": [None, 0.7],
}
WILD = {
    "shape": pair,
    "frame": region,
    "roi_shape": st.none() | pair | small,
    "rois": origins,
    "average": origins | st.lists(origins, max_size=3),
    "vacuum": region,
    "noise_variance": number,
    "noise_correlation": st.lists(number | st.floats(-1, 1), max_size=4),
    "noise_growth": number,
}


@st.composite
def data_settings(draw):
    """Good settings, two of which may be anything."""
    wild = draw(st.sets(st.sampled_from(sorted(WILD)), max_size=2))
    return {
        name: draw(WILD[name] if name in wild else st.sampled_from(GOOD[name])) for name in GOOD
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "image.npy"
    y, x = np.mgrid[0:40, 0:40]
    rng = np.random.default_rng(0)
    np.save(path, 1.0 + 0.2 * np.cos(x / 2.0) * np.cos(y / 3.0) + rng.normal(0, 0.01, x.shape))
    return path


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=data_settings())
def test_any_numbers_give_finite_images_or_a_message(image, data):
    content = {"stage": "imaging", "data": data | {"image": str(image), "sampling_nm": 0.01}}
    try:
        chosen = run_settings(content).data
        found = load_experiment(chosen, Reader())
        regions = find_regions(chosen, found.image, found.noise)
        groups = averages(chosen, found, Reader())
    except InputError as error:
        message = str(error)
    else:
        message = None
        arrays = [found.image, *found.others, *(r.image for r in regions)]
        assert all(np.all(np.isfinite(a)) and np.ptp(a) > 0 for a in arrays)
        assert all(groups)
        if found.noise is not None:
            assert np.all(np.isfinite(found.noise.correlation(12)))
    assert message is None or "data." in message


def test_of_a_stack_the_mean_or_one_frame_is_taken(tmp_path):
    y, x = np.mgrid[0:40, 0:40]
    rng = np.random.default_rng(1)
    lattice = 1.0 + 0.2 * np.cos(x / 2.0) * np.cos(y / 3.0)
    frames = lattice + rng.normal(0, 0.02, (3, *x.shape))
    path = tmp_path / "stack.npy"
    np.save(path, frames)

    def image(**data):
        known = {"image": str(path), "sampling_nm": 0.01, **data}
        reader = Reader()
        found = load_experiment(run_settings({"stage": "imaging", "data": known}).data, reader)
        return found.image, reader.warnings()

    one, said = image(stack=1)
    np.testing.assert_array_equal(one, frames[1])
    assert not any("frames" in text for text in said)
    mean, said = image()
    assert np.std((mean - lattice)[5:-5, 5:-5]) < 0.75 * 0.02
    assert any("mean of the 3 frames" in text for text in said)
    with pytest.raises(InputError, match=r"data.stack: found 3, expected 0 to 2: .* has 3 frames"):
        image(stack=3)
    with pytest.raises(InputError, match=r"data.stack: found 'median', expected mean or"):
        image(stack="median")


def test_counts_are_divided_by_those_of_the_vacuum(tmp_path):
    """Of an image whose regions are given, and of each frame of a stack by its own."""
    y, x = np.mgrid[0:60, 0:50]
    lattice = 1.0 + 0.2 * np.cos(x / 2.0) * np.cos(y / 3.0) * (y > 24)
    levels = np.array([900.0, 1100.0])
    noise = np.random.default_rng(2).normal(0, 10.0, (2, *x.shape))
    frames = levels[:, None, None] * lattice + noise
    path = tmp_path / "counts.npy"
    np.save(path, frames)

    def chosen(**data):
        known = {"image": str(path), "sampling_nm": 0.01, "stack": 0, "counts": True, **data}
        return run_settings({"stage": "imaging", "data": known}).data

    vacuum = (2, 0, 20, 50)
    data = chosen(vacuum=vacuum, roi_shape=(20, 25), rois=((30, 0),))
    found = load_field(data, Reader())
    (region,) = find_regions(data, found.image, found.noise)
    means = frames[:, 2:22].mean(axis=(1, 2))
    np.testing.assert_allclose(region.image, frames[0, 30:50, :25] / means[0])
    assert found.noise.variance == pytest.approx((10.0 / 900.0) ** 2, rel=0.15)
    both = frames_of(data, Reader())
    np.testing.assert_allclose(both, frames / means[:, None, None])
    for wrong, message in (
        ({"counts": "auto", "vacuum": vacuum}, r"has mean intensity .*data.counts=true"),
        ({}, r"data.vacuum: none given, expected .* to divide the counts of data.im"),
        ({"counts": False, "vacuum": vacuum}, r"data.image: .*counts.npy has mean intensity"),
    ):
        with pytest.raises(InputError, match=message):
            load_experiment(chosen(**wrong), Reader())
    # a hot pixel in the vacuum does not set its level, and is said
    hot = frames.copy()
    hot[0, 5, 5] = 65000.0
    np.save(path, hot)
    reader = Reader()
    found = load_field(data, reader)
    np.testing.assert_allclose(found.image[30:], frames[0, 30:] / means[0], rtol=1e-4)
    assert found.noise.variance == pytest.approx((10.0 / 900.0) ** 2, rel=0.15)
    (said,) = reader.warnings()
    assert "counts.npy has 1 bad pixels, which weigh as all others" in said
    hot[0, 5, 5] = np.nan
    np.save(path, hot)
    with pytest.raises(InputError, match="has 1 pixels that are NaN"):
        load_field(data, Reader())
    np.save(path, frames * (y > 24))
    with pytest.raises(InputError, match=r"data.vacuum: .*level of the vacuum: found 0, expected"):
        load_experiment(chosen(vacuum=vacuum, counts=True), Reader())


def test_counts_may_lie_where_intensities_could(tmp_path):
    y, x = np.mgrid[0:80, 0:50]
    lattice = 1.0 + 0.2 * np.cos(x / 2.0) * np.cos(y / 3.0) * (y > 34)
    levels = np.array([2.9, 3.1, 2.8])[:, None, None]
    frames = levels * lattice + np.random.default_rng(3).normal(0, 0.02, (3, *x.shape))
    path = tmp_path / "few.npy"
    np.save(path, frames)

    def read(**more):
        known = {"image": str(path), "sampling_nm": 0.01, "vacuum": (2, 0, 28, 50), **more}
        reader = Reader()
        data = run_settings({"stage": "imaging", "data": known}).data
        return frames_of(data, reader)[:, 2:30].mean(axis=(1, 2)), reader.warnings()

    with pytest.raises(InputError, match=r"frame 1 of .* has mean intensity 3.1, expected 0.3 to"):
        read()
    np.save(path, frames / 2.8)
    assert any("the vacuum of the image is 1.036, expected 1" in text for text in read()[1])
    np.save(path, frames)
    means, said = read(counts=True)
    np.testing.assert_allclose(means, 1.0, rtol=1e-6)
    assert not said
    # the crystal has drifted into the vacuum of the last
    frames[2, 15:45] = frames[2, 45:75]
    np.save(path, frames)
    _, said = read(counts=True)
    assert any("is not empty in frame 2: parts of it vary" in text for text in said)


@pytest.mark.parametrize("electrons", [0.1, 0.5, 1.0, 20.0])
def test_single_electrons_are_no_bad_pixels(tmp_path, electrons):
    y, x = np.mgrid[0:160, 0:150]
    lattice = 1.0 + 0.2 * np.cos(x / 4.0) * np.cos(y / 5.0) * (y > 90)
    path = tmp_path / "few.npy"
    np.save(path, np.random.default_rng(1).poisson(electrons * lattice).astype(float))
    known = {"image": str(path), "sampling_nm": 0.01, "vacuum": (0, 0, 80, 150), "counts": True}
    found = load_field(run_settings({"stage": "imaging", "data": known}).data, Reader())
    assert found.image[:80].mean() == pytest.approx(1.0, abs=0.01)


def test_counted_electrons_weigh_pixels_by_their_intensity(tmp_path):
    """As found where the noise is measured, or as given."""
    y, x = np.mgrid[0:150, 0:160]
    lattice = 1.0 + 0.3 * np.cos(x / 3.5) * np.cos(y / 4.0) * (y > 34)
    path = tmp_path / "counted.npy"
    np.save(path, np.random.default_rng(1).poisson(4000.0 * lattice) / 4000.0)

    def growth(**data):
        known = {"image": str(path), "sampling_nm": 0.01, **data}
        return load_experiment(run_settings({"stage": "imaging", "data": known}).data, Reader())

    vacuum = {"vacuum": (0, 0, 30, 160)}
    assert growth(**vacuum).noise.growth == pytest.approx(1.0, abs=0.25)
    assert growth(**vacuum, noise_growth=0.0).noise.growth == 0.0
    assert growth(noise_variance=2.5e-4).noise.growth == 0.0
    assert growth(noise_variance=2.5e-4, noise_growth=1.0).noise.growth == 1.0
    with pytest.raises(InputError, match=r"data.noise_growth: needs data.vacuum or data.noise_"):
        growth(noise_growth=1.0)
