"""Files that declare more than they hold, or are no files at all: refused at once.

All are read in one process of bounded memory, so that what a reader allocates before it looks is
seen: as an allocation that fails, or as memory that the process once held.
"""

import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.io import digital_micrograph, image_formats

TIME_LIMIT_S = 1.0
MEMORY_LIMIT_MIB = 200
GIB = 2**30

CHILD = """
import json, logging, resource, sys, time
from pathlib import Path
from qhrtem_jax.errors import InputError
from tests.io.reading import read_image
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.tables import read_table
from qhrtem_jax.inputs.handover import read_result
import tifffile, mrcfile.utils, mrcfile.mrcfile, zipfile
import PIL.PngImagePlugin
logging.disable(logging.CRITICAL)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 600 * 2**20,) * 2)
readers = {".mtf": lambda path: read_mtf(path, 1.0), ".csv": read_table,
           ".json": lambda path: read_result(path, "imaging.result"),
           ".dat": lambda path: read_image(path, (100_000, 100_000))}
held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for name in json.load(sys.stdin):
    path, before, start = Path(name), held(), time.perf_counter()
    try:
        readers.get(path.suffix, read_image)(path)
        found = "accepted"
    except InputError as error:
        found = str(error)
    print(json.dumps([path.name, found, time.perf_counter() - start, held() - before]), flush=True)
"""


def npy_head(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def sparse(path, size, head=b""):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def member(path, content, compression=zipfile.ZIP_DEFLATED, name="image.npy"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)


def tiff(path, change, **options):
    """A good file whose tags (code: value) and bytes are then changed."""
    tifffile.imwrite(path, np.ones((16, 16), "<f4"), metadata=None, **options)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        places = {tag.code: tag.valueoffset for tag in page.tags}
    content = bytearray(path.read_bytes())
    for code, value in change.items():
        struct.pack_into("<L", content, places[code], value)
    path.write_bytes(content)
    return places


def mrc(path, change):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ones((16, 16), "<f4"))
    content = bytearray(path.read_bytes())
    for word, value in change.items():
        struct.pack_into("<i", content, 4 * word, value)
    path.write_bytes(content)


def bomb(size):
    """`size` zeros, compressed."""
    packer = zlib.compressobj(9)
    chunks = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(chunks) + packer.flush()


def dm4(tags):
    writer = digital_micrograph._Writer(4)
    root = writer.group(tags)
    return writer.header(root) + root


def write_all(folder):
    """The files, and what the message about each must say."""
    expected = {}

    def add(name, message):
        expected[name] = message
        return folder / name

    add("many.npy", "declares").write_bytes(npy_head((10**6, 10**6)) + bytes(99))
    add("overflow.npy", "declares").write_bytes(npy_head((2**62, 2**62, 4)) + bytes(99))
    add("short.npy", "cut off").write_bytes(npy_head((16384, 16384)) + bytes(99))
    add("objects.npy", "object").write_bytes(npy_head((3, 3), "|O") + bytes(99))
    sparse(add("sparse.npy", "declares"), 40 * GIB, npy_head((100_000, 100_000)))
    add("head.npy", "cannot be read").write_bytes(b"\x93NUMPY\2\0\xff\xff\xff\x7f" + bytes(99))
    member(add("many.npz", "declares"), npy_head((10**6, 10**6)) + bytes(99))
    member(add("ratio.npz", "cut off"), npy_head((8192, 8192)) + bytes(2**20))
    member(add("text.npz", "no array"), b"hello" * 100)
    member(add("packed.npz", "in another way"), bytes(2**24), zipfile.ZIP_LZMA)
    with zipfile.ZipFile(folder / "many_members.npz", "w") as archive:
        for k in range(20_000):
            archive.writestr(f"a_member_with_a_long_name_{k}", b"")
    expected["many_members.npz"] = "directory"
    tiff(add("wide.tif", "declares"), {256: 2**31, 257: 2**31})
    tiff(add("short.tif", "cut off"), {256: 16000, 257: 16000, 278: 16000})
    places = tiff(add("circle.tif", "circle of pages"), {})
    content = bytearray((folder / "circle.tif").read_bytes())
    first = struct.unpack_from("<L", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<L", content, first + 2 + 12 * count, first)
    (folder / "circle.tif").write_bytes(content)
    path = add("bomb.tif", "unpacks to more")
    places = tiff(path, {}, compression="zlib")
    packed = bomb(400 * 2**20)
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, places[273], len(content))
    struct.pack_into("<L", content, places[279], len(packed))
    path.write_bytes(content + packed)
    tifffile.imwrite(
        add("pages.tif", "a stack of 3 images"),
        np.ones((3, 16, 16), "<f4"),
        photometric="minisblack",
    )
    mrc(add("wide.mrc", "declares"), {0: 2**31 - 1, 1: 2**31 - 1})
    mrc(add("short.mrc", "cut off"), {0: 16384, 1: 16384})
    mrc(add("negative.mrc", "shape"), {0: -16})
    mrc(add("extended.mrc", "extended header"), {23: 2**31 - 1})
    add("packed.mrc", "no MRC file").write_bytes(b"\x1f\x8b" + bytes(2000))
    writer = digital_micrograph._Writer(4)
    endless = [writer.tag("a", 21, writer.data([20, 20, 4, 0, 2**60], b""))]
    add("endless.dm4", "counts 1152921504606846976").write_bytes(dm4(endless))
    text = [writer.tag("a", 21, writer.data([18, 2**40], b""))]
    add("text.dm4", "counts 1099511627776").write_bytes(dm4(text))
    groups = b"".join(writer.tag("a", 20, b"\0\0" + struct.pack(">q", 1)) for _ in range(5000))
    add("deep.dm4", "deeper than").write_bytes(dm4([groups]))
    image = [writer.tag("Data", 21, writer.data([20, 6, 10**10], b""))]
    for name in ("ImageData", "", "ImageList"):
        image = [writer.tag(name, 20, writer.group(image))]
    sparse(add("sparse.dm4", "10000000000 pixels"), 50 * GIB, dm4(image))
    frame = np.ones((1, 16, 16), "<f4")
    image_formats.write_ser(path := add("wide.ser", "declares"), frame, (0.01, 0.01))
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, content.index(frame.tobytes()) - 8, 2**31, 2**31)
    path.write_bytes(content)
    image_formats.write_ser(path := add("many.ser", "more than it holds"), frame, (0.01, 0.01))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 18, 2**31)
    path.write_bytes(content)
    with h5py.File(add("wide.hspy", "declares"), "w") as file:
        file.create_dataset("Experiments/one/data", (2**20, 2**20), "f8", chunks=True)
    with h5py.File(add("bomb.emd", "declares"), "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (2**20, 2**12), "f4", chunks=True, compression="gzip")
    Image.new("L", (16, 16)).save(path := add("wide.png", "declares"))
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 2**30, 2**30)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)
    sparse(add("sparse.dat", "found the shape"), 40 * GIB)
    for name in ("sparse.mtf", "sparse.csv", "sparse.json"):
        sparse(add(name, "expected at most"), 40 * GIB)
    add("deep.json", "nested too deeply").write_text("[" * 10**6)
    add("number.json", "4000 digits").write_text('{"a": ' + "9" * 4000 + "}")
    add("field.csv", "field larger").write_text("C1\n" + "1" * 2**18)
    for ending in ("npy", "npz", "tif", "mrc", "mtf", "csv", "json"):
        os.mkfifo(add(f"pipe.{ending}", "pipe or a device"))
        add(f"empty.{ending}", "is empty").touch()
        (folder / f"zero.{ending}").symlink_to("/dev/zero")
        expected[f"zero.{ending}"] = "pipe or a device"
    for ending in ("npy", "npz", "tif", "mrc", "mtf", "csv"):
        add(f"folder.{ending}", "is a folder").mkdir()
    return expected


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by Linux's means")
def test_what_declares_too_much_is_refused_at_once(tmp_path):
    expected = write_all(tmp_path)
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([str(tmp_path / name) for name in expected]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(found) == len(expected), child.stderr[-2000:]
    wrong = []
    for name, message, seconds, mib in found:
        named = name in message or name.endswith(".dat")
        if expected[name] not in message or not named or "MemoryError" in message:
            wrong.append(f"{name}: {message!r}, expected {expected[name]!r}")
        if seconds > TIME_LIMIT_S or mib > MEMORY_LIMIT_MIB:
            wrong.append(f"{name}: {seconds:.1f} s, {mib:.0f} MiB")
    assert not wrong, "\n".join(wrong)
