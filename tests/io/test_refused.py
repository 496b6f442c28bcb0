"""Content that can be read but means nothing: refused by name."""

import os

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import file_size
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.tables import read_table
from tests.io.reading import read_image

GOOD = np.random.default_rng(0).uniform(0.5, 1.5, (9, 13))


def with_pixel(value, dtype="<f8"):
    image = GOOD.astype(dtype)
    image[0, 0] = value
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((0, 5)), r"shape \(0, 5\)"),
        (np.ones((1, 1)), "constant"),
        (np.ones((2, 9, 13)) * GOOD, "holds a stack of 2 images, expected one"),
        (np.ones((2, 2, 9, 13)) * GOOD, r"shape \(2, 2, 9, 13\)"),
        (np.array(1.0), r"shape \(\)"),
        (GOOD > 1, "holds bool numbers"),
        (GOOD.astype(complex), "holds complex128 numbers"),
        (np.zeros((3, 3), [("a", "f4"), ("b", "f4")]), "expected real intensities"),
        (np.full((3, 3), "a"), "expected real intensities"),
        (with_pixel(1e300), "mean intensity"),
        (with_pixel(-1.7e308) * 1.0, "mean intensity"),
        (with_pixel(np.inf), "1 pixels that are NaN or infinite"),
        (with_pixel(np.nan), "1 pixels that are NaN or infinite"),
        (GOOD * 5e-324, "mean intensity|constant"),
        (1.0 + GOOD * 1e-14, "constant"),
        (np.full((3, 3), 1.7e308), "constant"),
        (np.array([[1.7e308, -1.7e308]] * 2), "mean intensity"),
        (np.array([[1e9, 2.0 - 1e9]] * 2), "has a pixel of"),
        (np.random.default_rng(0).integers(0, 60000, (9, 13)).astype("u2"), "mean intensity"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_what_is_no_image_is_named(tmp_path, image, message, ending):
    path = tmp_path / f"image.{ending}"
    np.save(path, image) if ending == "npy" else np.savez(path, image=image)
    with pytest.raises(InputError, match=message):
        read_image(path)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", "u1", ">i2", "<i8", "longdouble"])
def test_numbers_of_every_size_and_order_are_read(tmp_path, dtype):
    image = np.rint(2 * GOOD).astype(dtype)
    np.save(tmp_path / "image.npy", image)
    np.testing.assert_array_equal(read_image(tmp_path / "image.npy"), image.astype(float))
    np.save(tmp_path / "image.npy", np.asfortranarray(image))
    np.testing.assert_array_equal(read_image(tmp_path / "image.npy"), image.astype(float))


@pytest.mark.parametrize("shape", [(0, 13), (-9, -13), (2**40, 2**40), (-(2**63), 4)])
def test_shapes_that_cannot_be_are_named(tmp_path, shape):
    GOOD.astype("<f4").tofile(tmp_path / "image.dat")
    with pytest.raises(InputError, match="found the shape"):
        read_image(tmp_path / "image.dat", shape)


def test_a_picture_in_colours_is_no_image(tmp_path):
    import tifffile

    picture = np.full((9, 13, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", picture, photometric="rgb")
    with pytest.raises(InputError, match="RGB"):
        read_image(tmp_path / "image.tif")


def test_a_thumbnail_behind_the_image_is_passed_over(tmp_path):
    import tifffile

    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(GOOD, photometric="minisblack")
        file.write(GOOD[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif"), GOOD)


def test_a_stack_of_imagej_is_no_image(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "image.tif", np.float32([GOOD, GOOD]), imagej=True)
    with pytest.raises(InputError, match=r"holds 2 images|stack of 2"):
        read_image(tmp_path / "image.tif")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "camera.mtf"
    path.write_text("1 0.5")
    path.chmod(0)
    with pytest.raises(InputError, match=rf"MTF: .*{path.name} cannot be opened"):
        read_mtf(path, 1.0)


def test_a_name_that_cannot_be_is_named(tmp_path):
    with pytest.raises(InputError, match=r": .* cannot be opened"):
        file_size(tmp_path / ("a" * 5000), "data.mtf")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match=r": .* cannot be opened"):
        file_size(loop, "data.mtf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n0\n0\n", "zeros only"),
        ("3\n0\n0\n0\n", "zeros only"),
        ("1\n-0.1\n0.5", "the value -0.1"),
        ("1\nnan\n0.5", "the value nan"),
        ("1\n0.5\n1e999", "the value inf"),
        ("3\n1\n0.5\n2.5", "the value 2.5"),
        ("0\n0.5\n0.2\n", "begins with 0"),
        ("0.1\n0.2\n0.5\n1.0\n", "reverse order"),
        ("0 1.0\n0.5 0.8\n1.0 0.3\n", "frequencies beside the values"),
        ("1.0 0.8 0.7\n0.5 0.4 0.3\n", "lines of 3 numbers"),
        ("3\n0 1.0\n0.5 0.8\n1.0 0.3\n", "frequencies beside the values"),
        ("1.0 0.0\n0.8 0.5\n0.2 1.0\n", "lines of 2 numbers"),
        ("5\n1\n0.5\n", "is it cut off"),
        ("1", "holds 1 numbers"),
        ("1_0\n0.5\n", "not a table of numbers"),
        ("\0\0", "no readable text"),
    ],
)
def test_what_is_no_mtf_is_named(tmp_path, text, message):
    path = tmp_path / "camera.mtf"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"MTF: .*camera\.mtf.*{message}"):
        read_mtf(path, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n0.5,0.2,3\n", "line 2 has too many values"),
        ("0,1,2\n0.5,0.2,3\n", "has 3 columns, expected 2"),
        ("O,0.9\n0.5,0.2\n", "line 1, column 1: found 'O'"),
        ("f,mtf\n0,1\n0.5,much\n", "line 3, column mtf: found 'much'"),
        ("f,mtf\n", "has no rows"),
        ("0,1\n", "frequencies from 0 that rise"),
        ("0,1\n0.3,0.5\n0.3,0.4\n0.5,0.2\n", "frequencies from 0 that rise"),
        ("-0.1,1\n0.5,0.2\n", "frequencies from 0 that rise"),
        ("0,1\n0.25,0.5\n", r"ends at the frequency 0\.25 1/pixel"),
        ("0,1\n0.5,0.5\n1.0,0.2\n", r"frequencies up to 1, expected 1/pixel"),
        ("0.2,0.9\n0.3,0.5\n0.4,0.4\n0.5,0.2\n", r"begins at the frequency 0\.2 1/pixel"),
        ("0,0.1\n0.25,0.5\n0.5,1.0\n", "reverse order"),
    ],
)
def test_what_is_no_table_of_an_mtf_is_named(tmp_path, text, message):
    path = tmp_path / "camera.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"MTF: .*camera\.csv.*{message}"):
        read_mtf(path, 1.0)


@pytest.mark.parametrize(
    "text", ["1.0 0.8 0.5 0.2", "4 1.0 0.8\n0.5 0.2", "4 1\n1.0\n0.8\n0.5\n0.2"]
)
def test_an_mtf_may_be_broken_into_lines_at_will(tmp_path, text):
    path = tmp_path / "camera.mtf"
    path.write_text(text)
    assert read_mtf(path, 1.0).values == (1.0, 0.8, 0.5, 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", "has no rows"),
        ("C1\n", "no rows"),
        ("C1,C1\n1,2\n", "each once"),
        ("C1,C99\n1,2\n", "each once"),
        (",\n1,2\n", "each once"),
        ("C1,C3\n1\n", "line 2 has 1 values, expected 2"),
        ("C1\n1,2\n", "line 2 has too many values"),
        ("C1\n1e999\n", "expected a finite number"),
        ("C1\n1_0\n", "expected a finite number"),
        ("C1\n\0\n", "NUL"),
        ('C1\n"1', "^$|accepted"),
        ("C1\n" + "1" * 2**18, "cannot be read"),
        ("C1\n" + "1\n" * 100_001, "more than 100000 rows"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    if message == "^$|accepted":  # an open quotation mark ends with the file
        assert read_table(path)[1].tolist() == [[1.0]]
        return
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_text_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("C1\n1\n".encode("utf-16"))
    with pytest.raises(InputError, match="no readable text"):
        read_table(path)
    path.write_bytes(b"\xef\xbb\xbfC1\n1\n")
    assert read_table(path)[0] == ["C1"]
