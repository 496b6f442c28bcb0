"""A short part of the fuzzer, and properties of every reader for content that Hypothesis draws."""

import json
import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.handover import imaging_vector, read_result
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.tables import read_table
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.stages import run_settings
from tests import fuzz
from tests.io import digital_micrograph
from tests.io.reading import read_image

CASES = 100
FEWER = {"emd": 8, "hspy": 8, "zspy": 8}
"""Cases of readers that start a process for each."""

DRAWN, DRAWN_FEWER = 20, 6
"""The same of what Hypothesis draws."""

READERS = fuzz.readers()
ENDINGS = ("npy", "npz", "tif", "mrc", "dat", "dm3", "dm4")

# one folder serves all the files that are drawn; a loaded machine may be slow
drawn = settings(
    max_examples=DRAWN,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)  # file libraries log what is damaged
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files_are_read_or_refused(name):
    cases = FEWER.get(name, CASES)
    found = fuzz.tally(READERS[name], 0, range(cases))
    assert not found.faults, found.faults[:3]
    assert found.accepted
    assert found.refused > cases / 10


@pytest.mark.parametrize("name", sorted(READERS))
def test_samples_are_good(name):
    found = fuzz.tally(READERS[name], 0, range(len(READERS[name].samples)))
    assert found.accepted == len(READERS[name].samples)


@pytest.mark.parametrize("name", sorted(READERS))
def test_random_bytes_are_refused_with_a_message(tmp_path, name):
    reader = READERS[name]
    path = tmp_path / reader.samples[0][0]

    @settings(drawn, max_examples=DRAWN_FEWER if name in FEWER else DRAWN)
    @given(content=st.binary(min_size=1, max_size=400))
    def check(content):
        path.write_bytes(content)
        message, found = outcome(lambda: reader.read(path))
        assert path.name in message if found is None else np.all(np.isfinite(found))

    check()


def intensities():
    shapes = st.tuples(st.integers(1, 20), st.integers(2, 20))
    return arrays.arrays(np.float32, shapes, elements=st.floats(0.5, 2.0, width=32)).filter(
        lambda image: np.ptp(image) > 0
    )


@pytest.mark.parametrize("ending", ENDINGS)
@drawn
@given(image=intensities())
def test_images_are_read_as_written(tmp_path, ending, image):
    path = tmp_path / f"image.{ending}"
    write(path, image)
    shape = image.shape if ending == "dat" else None
    np.testing.assert_array_equal(read_image(path, shape), image)


def write(path, image):
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".npz":
        np.savez_compressed(path, image=image, other=np.zeros(2))
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, image, photometric="minisblack", compression="zlib")
    elif path.suffix == ".mrc":
        import mrcfile

        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(image)
    elif path.suffix == ".dat":
        image.tofile(path)
    else:
        digital_micrograph.write(path, image)


@drawn
@given(
    fall=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50),
    kind=st.sampled_from(["bare", "counted", "kind"]),
)
def test_mtf_tables_are_read_as_written(tmp_path, fall, kind):
    values = [1.0, *fall]
    head = {"bare": [], "counted": [len(values)], "kind": [len(values), 1]}[kind]
    path = tmp_path / "camera.mtf"
    path.write_text("\n".join(map(repr, [*head, *values])))
    assert read_mtf(path, 1.0).values == tuple(values)


@drawn
@given(data=st.data())
def test_tables_are_read_as_written(tmp_path, data):
    columns = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    row = st.lists(numbers, min_size=len(columns), max_size=len(columns))
    rows = data.draw(st.lists(row, min_size=1, max_size=10))
    path = tmp_path / "table.csv"
    lines = [",".join(columns), *(",".join(map(repr, values)) for values in rows)]
    path.write_text("\n".join(lines))
    names, found = read_table(path)
    assert names == columns
    np.testing.assert_array_equal(found, np.array(rows))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@drawn
@given(content=st.dictionaries(st.text(), json_values, max_size=5))
def test_json_is_read_as_written(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    if any("\0" in text for text in path.read_text()):
        return
    assert read_result(path, "imaging.result") == content


@drawn
@given(
    table=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), json_values, max_size=4),
    conventions=json_values,
)
def test_results_of_any_shape_give_finite_parameters_or_a_message(table, conventions):
    content = {"parameters": table, "conventions": conventions}
    given = run_settings({"stage": "structure"})
    message, vector = outcome(lambda: imaging_vector(given, content, "it"))
    assert "imaging.result" in message if vector is None else np.all(np.isfinite(vector))


def outcome(read):
    """(message, None) of what is refused, else ("", what was read)."""
    try:
        return "", np.asarray(read())
    except InputError as error:
        return str(error), None


def spins(path):
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda path: {}["a"], "KeyError"),
        (lambda path: float("nan"), "not finite"),
        (spins, "took more than"),
    ],
)
def test_the_fuzzer_sees_faults(monkeypatch, read, fault):
    monkeypatch.setattr(fuzz, "TIME_LIMIT_S", 0.05)
    found = fuzz.tally(fuzz.Reader("it", read, (("i.txt", b"1"),)), 0, range(3))
    assert [case for case, _ in found.faults] == [0, 1, 2]
    assert all(fault in what for _, what in found.faults)
