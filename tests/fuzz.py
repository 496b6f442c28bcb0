"""Damaged input for every reader: what is refused must be refused with a message.

`python -m tests.fuzz --seconds 60 --seed 0` changes good files of every kind in ways that a seed
fixes, and prints for each reader how many were accepted, refused, and at fault: those that raised
anything but `InputError`, took longer than `TIME_LIMIT_S`, or gave what is not finite. A fault is
repeated by `--reader NAME --seed SEED --case NUMBER`.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import logging
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.handover import content_digest, imaging_vector, read_result
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.numpy_files import read_npz
from qhrtem_jax.io.tables import read_table
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.stages import run_settings
from tests.io import digital_micrograph, image_formats
from tests.io.reading import read_image

TIME_LIMIT_S = 2.0
"""Processor time of a case. It may wait ten times as long, as the machine may be busy."""

EXTREMES = (0, 1, -1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1)


_NM = (0.0089, 0.0089)


class TooSlow(BaseException):
    """A case that ran into the time limit; no `Exception`, so that no reader swallows it."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader under test: `read(path)` returns numbers that must be finite; `samples` are the
    contents of good files, by the name that such a file may have."""

    name: str
    read: Callable[[Path], Any]
    samples: tuple[tuple[str, bytes], ...]


@dataclasses.dataclass
class Tally:
    """What came of the cases of a reader; `faults`: (case, what happened)."""

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    faults: list[tuple[int, str]] = dataclasses.field(default_factory=list)


def mutations(content: bytes, rng: np.random.Generator, n: int) -> Iterator[bytes]:
    """`n` damaged versions of `content`, each by one to four changes."""
    for _ in range(n):
        changed = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            kind = _CHANGES[int(rng.integers(len(_CHANGES)))]
            kind(changed, rng)
        yield bytes(changed)


def _place(content: bytearray, rng: np.random.Generator) -> int:
    """A place to change: half of them near the beginning, where headers are."""
    reach = min(len(content), 256) if rng.random() < 0.5 else len(content)
    return int(rng.integers(reach)) if reach else 0


def _flip(content: bytearray, rng: np.random.Generator) -> None:
    if content:
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))


def _set(content: bytearray, rng: np.random.Generator) -> None:
    if content:
        content[_place(content, rng)] = (0, 255)[int(rng.integers(2))]


def _delete(content: bytearray, rng: np.random.Generator) -> None:
    at = _place(content, rng)
    del content[at : at + int(rng.integers(1, 17))]


def _insert(content: bytearray, rng: np.random.Generator) -> None:
    at = _place(content, rng)
    content[at:at] = rng.bytes(int(rng.integers(1, 17)))


def _truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[_place(content, rng) :]


def _duplicate(content: bytearray, rng: np.random.Generator) -> None:
    at, to = _place(content, rng), _place(content, rng)
    content[to:to] = content[at : at + int(rng.integers(1, 129))]


def _extreme(content: bytearray, rng: np.random.Generator) -> None:
    """An aligned number of the header becomes one that no file can mean."""
    width = (2, 4, 8)[int(rng.integers(3))]
    at = _place(content, rng)
    at -= at % 2 if rng.random() < 0.8 else 0
    value = EXTREMES[int(rng.integers(len(EXTREMES)))] % 2 ** (8 * width)
    order = "little" if rng.random() < 0.5 else "big"
    if at + width <= len(content):
        content[at : at + width] = value.to_bytes(width, order)


def _digits(content: bytearray, rng: np.random.Generator) -> None:
    """A digit of a text becomes a number that no file can mean."""
    texts = (
        b"-1",
        b"0",
        b"1e300",
        b"1e999",
        b"nan",
        b"9" * 30,
        b"9" * 400,
        b"[[[[",
        b'"',
        b"4e-320",
    )
    digits = [k for k in range(min(len(content), 4096)) if 48 <= content[k] <= 57]
    if digits:
        at = digits[int(rng.integers(len(digits)))]
        content[at : at + 1] = texts[int(rng.integers(len(texts)))]


_CHANGES = (_flip, _set, _delete, _insert, _truncate, _duplicate, _extreme, _extreme, _digits)


def readers() -> dict[str, Reader]:
    """The readers by name."""
    found = [
        Reader("npy", _image, tuple(_npy())),
        Reader("npz", _image, tuple(_npz())),
        Reader("tif", _image, tuple(_tif())),
        Reader("mrc", _image, tuple(_mrc())),
        Reader("dm", _image, tuple(_dm())),
        Reader("ser", _image, tuple(_ser())),
        Reader("emd", _image, tuple(_emd())),
        Reader("hspy", _image, tuple(_hspy())),
        Reader("zspy", _image, tuple(_zspy())),
        Reader("png", _image, tuple(_png())),
        Reader("raw", lambda path: read_image(path, (9, 13)), (("i.dat", _pixels().tobytes()),)),
        Reader("mtf", lambda path: read_mtf(path, 1.0).values, tuple(_mtf())),
        Reader("table", lambda path: read_table(path)[1], (("t.csv", _table()),)),
        Reader("imaging", _imaging, tuple(_imaging_results())),
        Reader("stitch", _stitch, (("r.json", _stitch_result()),)),
        Reader("arrays", lambda path: read_npz(path, "stitch.result", "points"), tuple(_arrays())),
    ]
    return {reader.name: reader for reader in found}


def try_case(reader: Reader, folder: Path, seed: int, case: int) -> str | None:
    """Reads case `case` of `seed`: "accepted", "refused", or else what went wrong."""
    path = folder / _written(reader, folder, seed, case)
    try:
        with _time_limit(TIME_LIMIT_S):
            found = np.asarray(reader.read(path))
    except InputError as error:
        if "\n" in str(error):
            return f"message of several lines: {error}"
        return "refused"
    except TooSlow:
        return f"took more than {TIME_LIMIT_S} s of work or {10 * TIME_LIMIT_S} s in all"
    except MemoryError:
        return "filled the memory"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    if found.dtype.kind in "fc" and not np.all(np.isfinite(found)):
        return "gave numbers that are not finite"
    return "accepted"


def tally(reader: Reader, seed: int, cases: range, until: float | None = None) -> Tally:
    """Tries the cases in turn, up to the time `until`."""
    result = Tally()
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            if until is not None and time.monotonic() > until:
                break
            found = try_case(reader, Path(name), seed, case)
            result.cases += 1
            if found == "accepted":
                result.accepted += 1
            elif found == "refused":
                result.refused += 1
            else:
                result.faults.append((case, str(found)))
    return result


def _written(reader: Reader, folder: Path, seed: int, case: int) -> str:
    """Name of the file of a case: case 0, 1, ... are the samples as they are."""
    name, content = reader.samples[case % len(reader.samples)]
    if case >= len(reader.samples):
        rng = np.random.default_rng([seed, case, *reader.name.encode()])
        content = rng.bytes(int(rng.integers(400))) if case % 50 == 49 else content
        (content,) = mutations(content, rng, 1)
    (folder / name).write_bytes(content)
    return name


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TooSlow

    limits = {signal.ITIMER_PROF: seconds, signal.ITIMER_REAL: 10.0 * seconds}
    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    try:
        for timer, limit in limits.items():
            signal.setitimer(timer, limit, limit)  # again, where a callback swallowed it
        yield
    finally:
        for timer in limits:
            signal.setitimer(timer, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _image(path: Path) -> np.ndarray:
    return read_image(path)


def _imaging(path: Path) -> np.ndarray:
    settings = run_settings({"stage": "structure"})
    content_digest(path, "imaging.result")
    return imaging_vector(settings, read_result(path, "imaging.result"), str(path))


def _stitch(path: Path) -> float:
    read_result(path, "stitch.result")
    return 0.0


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 1.5, (9, 13)).astype("<f4")


def _saved(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _npy() -> Iterator[tuple[str, bytes]]:
    for dtype in ("<f4", ">f8", "<u2"):
        image = np.rint(2.0 * _pixels()) if dtype == "<u2" else _pixels()
        yield "i.npy", _saved(functools.partial(np.save, arr=image.astype(dtype)))


def _npz() -> Iterator[tuple[str, bytes]]:
    yield "i.npz", _saved(lambda file: np.savez(file, image=_pixels(), other=np.zeros(3)))
    yield "i.npz", _saved(lambda file: np.savez_compressed(file, image=_pixels()))


def _arrays() -> Iterator[tuple[str, bytes]]:
    points = np.linspace(0.0, 1.0, 24).reshape(4, 6)
    yield "arrays.npz", _saved(lambda file: np.savez_compressed(file, points=points, other=points))


def _tif() -> Iterator[tuple[str, bytes]]:
    import tifffile

    for options in (
        {},
        {"bigtiff": True, "byteorder": ">"},
        {"compression": "zlib", "rowsperstrip": 4},
        {"compression": "zlib", "metadata": None, "tile": (16, 16)},
        {"tile": (16, 16)},
        {"imagej": True},
    ):
        yield "i.tif", _saved(lambda file, o=options: tifffile.imwrite(file, _pixels(), **o))


def _mrc() -> Iterator[tuple[str, bytes]]:
    import mrcfile

    with tempfile.TemporaryDirectory() as name:
        for dtype in ("<f4", "<f2", "<i2"):
            path = Path(name) / "i.mrc"
            with mrcfile.new(path, overwrite=True) as file:
                file.set_data(np.rint(_pixels() * 2).astype(dtype))
                file.set_extended_header(np.zeros(80, "V1"))
            yield "i.mrc", path.read_bytes()


def _dm() -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as name:
        for ending in ("dm3", "dm4"):
            path = Path(name) / f"i.{ending}"
            digital_micrograph.write(path, _pixels())
            yield path.name, path.read_bytes()


def _written_by(name: str, write: Callable[[Path], Any]) -> tuple[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return name, path.read_bytes()


def _ser() -> Iterator[tuple[str, bytes]]:
    for version in (0x0210, 0x0220):
        yield _written_by(
            "i.ser", lambda p, v=version: image_formats.write_ser(p, _pixels()[None], _NM, v)
        )


def _emd() -> Iterator[tuple[str, bytes]]:
    yield _written_by("i.emd", lambda p: image_formats.write_velox(p, _pixels()[None], _NM))
    yield _written_by("i.emd", lambda p: image_formats.write_berkeley(p, _pixels(), _NM))


def _hspy() -> Iterator[tuple[str, bytes]]:
    for options in ({}, {"compression": "gzip"}):
        yield _written_by(
            "i.hspy", lambda p, o=options: image_formats.write_hspy(p, _pixels(), _NM, **o)
        )


def _zspy() -> Iterator[tuple[str, bytes]]:
    for version in (2, 3):
        yield _written_by(
            "i.zspy",
            lambda p, v=version: image_formats.write_zspy(
                p, _pixels()[None], _NM, version=v, zipped=True
            ),
        )


def _png() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    for kind, scale in ((np.uint8, 2), (np.uint16, 2)):
        pixels = np.rint(scale * _pixels()).astype(kind)
        yield "i.png", _saved(lambda file, p=pixels: Image.fromarray(p).save(file, format="png"))


def _mtf() -> Iterator[tuple[str, bytes]]:
    values = "\n".join(f"{value:.4f}" for value in np.linspace(1.0, 0.1, 20))
    for head in ("", "20\n", "20\n1\n"):
        yield "camera.mtf", (head + values + "\n").encode()
    rows = [f"{k / 38:.6f},{value}" for k, value in enumerate(values.split())]
    for head in ("", "frequency_per_pixel,mtf\n"):
        yield "camera.csv", (head + "\n".join(rows) + "\n").encode()


def _table() -> bytes:
    return b"C1,tilt_x,thickness\n4.0,0.5,7\n6.0,-1.0,9\n5.25,0,12\n"


def _imaging_results() -> Iterator[tuple[str, bytes]]:
    table = {name: {"value": 1.0, "std": None, "free": True} for name in NAMES}
    plain = {"parameters": {"C1": 4.2}, "conventions": {"aberrations": "drprobe"}}
    for content in ({"parameters": table, "warnings": []}, plain):
        yield "r.json", json.dumps(content).encode()


def _stitch_result() -> bytes:
    roi = {"origin_px": [0, 12], "columns": [{"atoms": 7, "probabilities": {"7": 0.9}}]}
    noise = {"variance": 1e-4, "correlation": [0.5, 0.1], "source": "vacuum"}
    return json.dumps({"stage": "reconstruct", "rois": [roi, roi], "noise": noise}).encode()


def main(arguments: list[str] | None = None) -> int:
    """Runs the fuzzer, and returns 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=sorted(readers()), help="this one only")
    parser.add_argument("--case", type=int, help="this one only, with its traceback")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # file libraries log what is damaged
    warnings.simplefilter("error")
    chosen = [r for r in readers().values() if options.reader in (None, r.name)]
    if options.case is not None:
        return _repeat(chosen[0], options.seed, options.case)
    faults = 0
    for reader in chosen:
        until = time.monotonic() + options.seconds / len(chosen)
        found = tally(reader, options.seed, range(sys.maxsize), until)
        print(
            f"{reader.name:8} {found.cases:7} cases {found.accepted:7} accepted "
            f"{found.refused:7} refused {len(found.faults):4} faults",
            flush=True,
        )
        for case, what in found.faults[:10]:
            print(f"  --reader {reader.name} --seed {options.seed} --case {case}: {what}")
        faults += len(found.faults)
    return int(faults > 0)


def _repeat(reader: Reader, seed: int, case: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / _written(reader, Path(name), seed, case)
        print(f"{path.name}: {path.read_bytes()[:400]!r}")
        with _time_limit(TIME_LIMIT_S):
            print(np.asarray(reader.read(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
