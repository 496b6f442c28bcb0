"""Images of microscopes' own formats, against what the formats' libraries write and read."""

import importlib

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.calibration import file_sampling
from qhrtem_jax.io.images import read_counts, read_frames
from tests.io import digital_micrograph
from tests.io.image_formats import write_berkeley, write_ser, write_velox, write_zspy

NM = (0.0089, 0.0178)  # rows, columns
FRAMES = np.random.default_rng(3).uniform(100.0, 900.0, (3, 9, 14))


def hyperspys(name: str):
    """A module of RosettaSciIO."""
    return importlib.import_module(f"rsciio.{name}")


def signal(data: np.ndarray, names=("y", "x")) -> dict:
    """A signal as RosettaSciIO takes it."""
    axes = [
        {"size": n, "index_in_array": k, "navigate": k < data.ndim - 2}
        | {"name": "frame", "scale": 1.0, "offset": 0.0, "units": "s"}
        for k, n in enumerate(data.shape)
    ]
    for axis, name, nm in zip(axes[-2:], names, NM, strict=True):
        axis |= {"name": name, "scale": nm, "units": "nm"}
    general = {"General": {"title": "an image"}, "Signal": {"signal_type": ""}}
    return {
        "data": data,
        "axes": axes,
        "metadata": general,
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "package": "rosettasciio",
        "package_info": {},
        "package_version": "0",
        "attributes": {"_lazy": False},
    }


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<f4"])
@pytest.mark.parametrize("version", [0x0210, 0x0220])
def test_tias_ser(tmp_path, kind, version):
    frames, path = FRAMES.astype(kind), tmp_path / "image.ser"
    write_ser(path, frames, NM, version)
    found = read_frames(path)
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, frames)
    assert file_sampling(path) == pytest.approx(NM)
    theirs = hyperspys("tia").file_reader(str(path))[0]
    np.testing.assert_array_equal(theirs["data"], frames)
    assert [a["scale"] for a in theirs["axes"][-2:]] == pytest.approx(NM)


def test_veloxs_emd(tmp_path):
    path = tmp_path / "image.emd"
    write_velox(path, FRAMES.astype("<u2"), NM)
    np.testing.assert_array_equal(read_frames(path), FRAMES.astype("<u2"))
    assert file_sampling(path) == pytest.approx(NM)
    theirs = hyperspys("emd").file_reader(str(path))[0]
    np.testing.assert_array_equal(theirs["data"], FRAMES.astype("<u2"))
    write_velox(path, FRAMES[:1].astype("<f4"), NM)
    np.testing.assert_array_equal(read_counts(path), FRAMES[0].astype("<f4"))


@pytest.mark.parametrize("names", [("y", "x"), ("dim1", "dim2"), ("Y Position", "X Position")])
def test_berkeleys_emd_with_rows_first(tmp_path, names):
    path = tmp_path / "image.emd"
    write_berkeley(path, FRAMES[0], NM, names)
    np.testing.assert_array_equal(read_counts(path), FRAMES[0])
    assert file_sampling(path) == pytest.approx(NM)
    write_berkeley(path, FRAMES[0].T, NM[::-1], ("x", "y"))
    np.testing.assert_array_equal(read_counts(path), FRAMES[0])
    assert file_sampling(path) == pytest.approx(NM)


@pytest.mark.parametrize("names", [("y", "x"), ("", "")])
@pytest.mark.parametrize("ending", ["emd", "hspy"])
def test_what_rosettasciio_writes(tmp_path, ending, names):
    path = tmp_path / f"image.{ending}"
    hyperspys(ending).file_writer(str(path), signal(FRAMES[0], names))
    np.testing.assert_array_equal(read_counts(path), FRAMES[0])
    assert file_sampling(path) == pytest.approx(NM)
    theirs = hyperspys(ending).file_reader(str(path))[0]
    np.testing.assert_array_equal(theirs["data"], FRAMES[0])


def test_stacks_of_hyperspy(tmp_path):
    path = tmp_path / "stack.hspy"
    hyperspys("hspy").file_writer(str(path), signal(FRAMES))
    np.testing.assert_array_equal(read_frames(path), FRAMES)
    with pytest.raises(InputError, match="a stack of 3 images, expected one"):
        read_counts(path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_hyperspys_zarr(tmp_path, zipped, version):
    path = tmp_path / "image.zspy"
    write_zspy(path, FRAMES, NM, version=version, zipped=zipped)
    assert path.is_file() == zipped
    np.testing.assert_array_equal(read_frames(path), FRAMES)
    assert file_sampling(path) == pytest.approx(NM)


@pytest.mark.parametrize("ending", ["dm3", "dm4"])
def test_digital_micrographs_own(tmp_path, ending):
    image, path = FRAMES[0].astype(np.float32), tmp_path / f"image.{ending}"
    digital_micrograph.write(path, image)
    np.testing.assert_array_equal(read_counts(path), image)
    theirs = hyperspys("digitalmicrograph").file_reader(str(path))[0]
    np.testing.assert_array_equal(theirs["data"], image)
    scales = [a["scale"] for a in theirs["axes"]]
    assert file_sampling(path) == pytest.approx(scales)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png(tmp_path, kind):
    from PIL import Image

    image, path = (FRAMES[0] / 4.0).astype(kind), tmp_path / "image.png"
    Image.fromarray(image).save(path)
    np.testing.assert_array_equal(read_counts(path), image)
    Image.fromarray(np.zeros((9, 14, 3), np.uint8)).save(path)
    with pytest.raises(InputError, match="a picture in colours"):
        read_counts(path)


@pytest.mark.parametrize(
    "options",
    [{}, {"metadata": None}, {"imagej": True}, {"compression": "zlib"}, {"bigtiff": True}],
)
def test_stacks_of_tiff(tmp_path, options):
    import tifffile

    frames, path = FRAMES.astype(np.float32), tmp_path / "stack.tif"
    tifffile.imwrite(path, frames, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_frames(path), frames)


def test_a_stack_of_stacks_of_tiff(tmp_path):
    import tifffile

    frames, path = np.stack([FRAMES, FRAMES + 1.0]).astype(np.float32), tmp_path / "stack.tif"
    tifffile.imwrite(path, frames, photometric="minisblack", truncate=True)
    np.testing.assert_array_equal(read_frames(path), frames.reshape(-1, *frames.shape[2:]))


def test_stacks_of_mrc_and_numpy(tmp_path):
    import mrcfile

    frames = FRAMES.astype(np.float32)
    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(frames)
    np.save(tmp_path / "stack.npy", frames)
    for name in ("stack.mrc", "stack.npy"):
        np.testing.assert_array_equal(read_frames(tmp_path / name), frames)
        with pytest.raises(InputError, match=f"{name} holds a stack of 3 images, expected one"):
            read_counts(tmp_path / name)


def test_veloxs_transforms_are_passed_over(tmp_path):
    import h5py

    path = tmp_path / "image.emd"
    write_velox(path, FRAMES[:1].astype("<f4"), NM)
    with h5py.File(path, "a") as file:
        kind = np.dtype([("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
        file.create_dataset("Data/Image/0000/Data", data=np.zeros((9, 14, 1), kind))
    np.testing.assert_array_equal(read_counts(path), FRAMES[0].astype("<f4"))


def test_large_chunks_of_a_small_image_are_refused(tmp_path):
    import zarr

    store = zarr.storage.LocalStore(tmp_path / "image.zspy")
    group = zarr.create_group(store).create_group("Experiments/image")
    made = group.create_array("data", shape=(16, 16), chunks=(8000, 8000), dtype="f8")
    made[...] = 1.5
    with pytest.raises(InputError, match=r"declares chunks \(8000, 8000\)"):
        read_counts(tmp_path / "image.zspy")


def test_a_module_beside_the_image_is_not_imported(tmp_path, monkeypatch):
    path = tmp_path / "image.emd"
    write_berkeley(path, FRAMES[0], NM)
    (tmp_path / "h5py.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_counts(path), FRAMES[0])
    assert not (tmp_path / "imported").exists()


def test_a_library_that_crashes_or_hangs_is_named(tmp_path, monkeypatch):
    from qhrtem_jax.io import guarded

    path = tmp_path / "image.emd"
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"image.emd cannot be read \(its library failed with"):
        guarded.guarded(crashes, path, "image")
    monkeypatch.setattr(guarded, "SECONDS", 1.5)
    with pytest.raises(InputError, match=r"its library took more than 2 s: is it damaged"):
        guarded.guarded(hangs, path, "image")


def crashes(path, option):
    import os

    os.abort()


def hangs(path, option):
    import time

    time.sleep(60.0)


def test_images_in_other_files_are_refused(tmp_path):
    import h5py

    hyperspys("hspy").file_writer(str(tmp_path / "other.hspy"), signal(FRAMES[0]))
    with h5py.File(tmp_path / "linked.hspy", "w") as file:
        name = "Experiments/an image"
        file.create_group("Experiments")["one"] = h5py.ExternalLink("other.hspy", name)
    with pytest.raises(InputError, match="keeps its image in other files"):
        read_counts(tmp_path / "linked.hspy")

    FRAMES[0].tofile(tmp_path / "beside.raw")
    path = tmp_path / "image.hspy"
    with h5py.File(path, "w") as file:
        file.create_group("Experiments/one").create_dataset(
            "data", FRAMES[0].shape, "f8", external=[(str(tmp_path / "beside.raw"), 0, 10_000)]
        )
    with pytest.raises(InputError, match="keeps its image in other files"):
        read_counts(path)
    layout = h5py.VirtualLayout(FRAMES[0].shape, "f8")
    with h5py.File(path, "w") as file:
        file.create_group("Experiments/one").create_virtual_dataset("data", layout)
    with pytest.raises(InputError, match="keeps its image in other files"):
        read_counts(path)


def test_spectra_and_files_without_an_image_are_refused(tmp_path):
    import h5py

    path = tmp_path / "image.ser"
    write_ser(path, FRAMES.astype("<u2"), NM)
    content = bytearray(path.read_bytes())
    content[6:10] = (0x4120).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds spectra"):
        read_frames(path)
    for ending in ("emd", "hspy"):
        with h5py.File(tmp_path / f"image.{ending}", "w") as file:
            file.create_group("nothing")
        with pytest.raises(InputError, match=rf"image\.{ending} cannot be read \(it "):
            read_frames(tmp_path / f"image.{ending}")
