"""Files are read once, and warnings are said to everyone who asks."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.example import with_example
from qhrtem_jax.inputs.frames import frames_of, image_file, image_of
from qhrtem_jax.inputs.image import averaged_data, load_experiment, load_field
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.pipeline import settings_of
from qhrtem_jax.stages import STAGES, run_settings
from tests.runs import example_settings


def test_the_same_is_read_once_and_warned_of_every_time():
    reader, read = Reader(), []

    def of(name):
        read.append(name)
        reader.warn(f"{name} is odd")
        return name

    assert [reader.once(k, lambda k=k: of(k)) for k in ("a", "b", "a")] == ["a", "b", "a"]
    assert read == ["a", "b"]
    assert reader.warnings() == ("a is odd", "b is odd")
    assert reader.once("b", lambda: of("b")) == "b"
    assert reader.warnings() == ("b is odd",)
    assert reader.warnings() == ()


def test_all_stages_read_and_measure_the_image_once(monkeypatch):
    from qhrtem_jax.inputs import frames, image

    calls = []
    for module, name in ((frames, "read_frames"), (image, "measure_noise")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda *a, name=name, real=real, **k: (calls.append(name), real(*a, **k))[1],
        )
    reader = Reader()
    settings = example_settings({"stage": "stitch", "memory_gb": 16.0})
    averaged_data(settings.data, reader)
    for stage in ("imaging", "structure", "reconstruct", "stitch"):
        STAGES[stage].prepare(settings, reader)
    assert sorted(calls) == ["measure_noise", "read_frames"]


@pytest.mark.parametrize(
    ("stage", "imaging", "own"),
    [
        ("pipeline", 1e-4, None),
        ("reconstruct", 1e-4, 3e-4),
        ("stitch", 1e-4, 3e-4),
        ("structure", 3e-4, 3e-4),
    ],
)
def test_noise_that_is_given_is_of_the_image_that_the_run_is_given(stage, imaging, own):
    """Of a pixel of the field, or of the mean that structure is told to look at."""
    average = ((0, 0), (0, 8), (0, 16))
    settings = example_settings({"stage": stage})
    rows, cols = load_field(settings.data, Reader()).image.shape
    data = dataclasses.replace(
        settings.data,
        average=average,
        roi_shape=(rows, cols - 16),
        vacuum=None,
        noise_variance=3e-4,
    )
    settings, reader = dataclasses.replace(settings, data=data), Reader()
    found = settings_of(settings, "imaging", reader)
    assert found.stage == "imaging"
    assert found.data.noise_variance == pytest.approx(imaging)
    assert found.data.average == average
    if own is not None:
        assert settings_of(settings, stage, reader).data == data
        assert data.noise_variance == own


def test_other_options_are_another_image():
    reader = Reader()
    data = example_settings({"stage": "imaging"}).data
    whole = load_field(data, reader).image
    rows, cols = whole.shape
    part = dataclasses.replace(data, frame=(0, 0, rows // 2, cols), vacuum=None)
    assert load_field(part, reader).image.shape == (rows // 2, cols)
    assert load_experiment(data, reader).image.shape == whole.shape


def test_what_is_given_stays_even_where_it_is_the_default():
    content = {"stage": "imaging", "specimen": {"scattering": "weickenmeier_kohl"}}
    chosen, _ = with_example(content, {"specimen.scattering"})
    assert run_settings(chosen).specimen.scattering == "weickenmeier_kohl"
    left, _ = with_example(content, ())
    assert run_settings(left).specimen.scattering == "lobato"


def test_frames_may_come_from_a_list_of_files(tmp_path):
    frames = 1.0 + 0.1 * np.random.default_rng(0).normal(size=(3, 20, 24))
    names = tuple(str(tmp_path / name) for name in ("stack.npy", "first.npy", "others.npy"))
    for name, some in zip(names, (frames, frames[0], frames[1:]), strict=True):
        np.save(name, some)
    stack, listed = (DataSettings(image=image) for image in (names[0], names[1:]))
    np.testing.assert_array_equal(frames_of(listed, Reader()), frames)
    of_stack, of_list = (image_of(data, Reader(), "an image") for data in (stack, listed))
    np.testing.assert_array_equal(of_list, of_stack)
    second = dataclasses.replace(listed, stack=1)
    np.testing.assert_array_equal(image_of(second, Reader(), "an image"), frames[1])
    with pytest.raises(InputError, match=r"data\.image: found 2 files, expected an edge"):
        image_file(listed, "an edge")
    np.save(names[2], frames[1:, :-1])
    with pytest.raises(InputError, match=r"data\.image\[1\]: .*others\.npy has frames of .*first"):
        frames_of(listed, Reader())
