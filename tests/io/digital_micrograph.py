"""Writes the smallest DigitalMicrograph file that holds one image, as Gatan's tag tree.

The layout is that of https://imagej.net/ij/plugins/DM3Format.gj.html (G. Jefferis): tag counts,
names and sizes big-endian, numbers little-endian; DM4 counts with 64 bits and gives every tag's
size. The reader wants a calibration of each axis.
"""

import struct
from pathlib import Path

import numpy as np

_GROUP, _DATA = 20, 21
_UINT16, _UINT32, _FLOAT32, _ARRAY = 4, 5, 6, 20
_IMAGE_OF_FLOAT32 = 2
SAMPLING_NM = 0.00887


class _Writer:
    def __init__(self, version: int) -> None:
        self.version = version
        self.long = ">q" if version == 4 else ">i"

    def tag(self, name: str, kind: int, content: bytes) -> bytes:
        head = struct.pack(">BH", kind, len(name)) + name.encode("latin-1")
        size = struct.pack(">q", len(content)) if self.version == 4 else b""
        return head + size + content

    def group(self, tags: list[bytes]) -> bytes:
        return struct.pack(">BB", 1, 0) + struct.pack(self.long, len(tags)) + b"".join(tags)

    def data(self, info: list[int], content: bytes) -> bytes:
        described = b"".join(struct.pack(self.long, value) for value in (len(info), *info))
        return b"%%%%" + described + content

    def number(self, name: str, value: int) -> bytes:
        return self.tag(name, _DATA, self.data([_UINT32], struct.pack("<I", value)))

    def calibration(self) -> bytes:
        """One entry of `Dimension`: pixels of `SAMPLING_NM`."""
        unit = "nm"
        return self.tag(
            "",
            _GROUP,
            self.group(
                [
                    self.tag("Origin", _DATA, self.data([_FLOAT32], struct.pack("<f", 0.0))),
                    self.tag("Scale", _DATA, self.data([_FLOAT32], struct.pack("<f", SAMPLING_NM))),
                    self.tag(
                        "Units",
                        _DATA,
                        self.data([_ARRAY, _UINT16, len(unit)], unit.encode("utf-16-le")),
                    ),
                ]
            ),
        )

    def header(self, root: bytes) -> bytes:
        return struct.pack(">i", self.version) + struct.pack(self.long, len(root)) + b"\0\0\0\1"


def write(path: Path, image: np.ndarray) -> None:
    """Write `image` (rows, cols) as float32; the ending, .dm3 or .dm4, names the version."""
    writer = _Writer(int(path.suffix[-1]))
    rows, cols = image.shape
    pixels = writer.data([_ARRAY, _FLOAT32, image.size], image.astype("<f4").tobytes())
    dimension = writer.group([writer.calibration(), writer.calibration()])
    content = [
        writer.tag(
            "Calibrations",
            _GROUP,
            writer.group([writer.tag("Dimension", _GROUP, dimension)]),
        ),
        writer.tag("Data", _DATA, pixels),
        writer.number("DataType", _IMAGE_OF_FLOAT32),
        writer.tag(
            "Dimensions",
            _GROUP,
            writer.group([writer.number("", cols), writer.number("", rows)]),
        ),
        writer.number("PixelDepth", 4),
    ]
    one = writer.group(
        [
            writer.tag("ImageData", _GROUP, writer.group(content)),
            writer.tag("ImageTags", _GROUP, writer.group([])),
        ]
    )
    images = writer.group([writer.tag("", _GROUP, one)])
    root = writer.group([writer.tag("ImageList", _GROUP, images)])
    path.write_bytes(writer.header(root) + root + b"\0" * 8)
