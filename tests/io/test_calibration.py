"""What files say of the size of their pixels, written by the formats' own libraries."""

import mrcfile
import numpy as np
import pytest
import tifffile

from qhrtem_jax.io.calibration import file_sampling

IMAGE = np.ones((12, 16), np.float32)


@pytest.mark.parametrize(
    ("unit", "size"), [("nm", 0.0089), ("um", 8.9e-6), ("pm", 8.9), ("\\u00B5m", 8.9e-6)]
)
def test_imagejs_calibration(tmp_path, unit, size):
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, IMAGE, imagej=True, resolution=(1.0 / size, 0.5 / size), metadata={"unit": unit}
    )
    down, along = file_sampling(path)
    assert along == pytest.approx(0.0089, rel=1e-4)
    assert down == pytest.approx(2 * 0.0089, rel=1e-4)


def test_mrc_counts_in_angstrom(tmp_path):
    path = tmp_path / "image.mrc"
    with mrcfile.new(path) as file:
        file.set_data(IMAGE)
        file.voxel_size = (0.089, 0.178, 1.0)  # x, y, z
    assert file_sampling(path) == pytest.approx((0.0178, 0.0089), rel=1e-5)


def test_a_printers_resolution_is_none(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, IMAGE, resolution=(72.0, 72.0), resolutionunit="INCH")
    assert file_sampling(path) is None
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=(1.0, 1.0), metadata={"unit": "pixel"})
    assert file_sampling(path) is None
    with mrcfile.new(tmp_path / "image.mrc") as file:
        file.set_data(IMAGE)  # no size of a voxel
    assert file_sampling(tmp_path / "image.mrc") is None


@pytest.mark.parametrize("name", ["image.tif", "image.mrc", "image.dm4", "image.npy", "image.txt"])
def test_a_damaged_file_has_none(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"II*\x00 nothing of the kind" * 3)
    assert file_sampling(path) is None
    assert file_sampling(tmp_path / ("no" + name)) is None
