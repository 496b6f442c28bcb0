"""The files that `data.image` names, and their frames."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.normalised import vacuum_at_1
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.io.calibration import file_sampling
from qhrtem_jax.io.image_size import MOST_PIXELS
from qhrtem_jax.io.images import RAW, crop, read_frames
from qhrtem_jax.micrograph.stack import registered_mean


def image_files(data: DataSettings, expected: str) -> tuple[Path, ...]:
    """The files that `data.image` names; `expected` is said where none is.

    **Raises:** `InputError` for none, and for raw files without their shape.
    """
    named = (data.image,) if isinstance(data.image, str) else data.image or ()
    paths = tuple(Path(name) for name in named)
    if not paths:
        raise InputError(f"data.image: none given, expected {expected}")
    for path in paths:
        if data.shape is None and path.suffix.lower() in RAW:
            raise InputError(f"data.shape: needed as [rows,cols] to read the raw file {path}")
    return paths


def image_file(data: DataSettings, expected: str) -> Path:
    """The one file that `data.image` names; see `image_files`.

    **Raises:** `InputError` also for several.
    """
    path, *others = image_files(data, expected)
    if others:
        raise InputError(f"data.image: found {1 + len(others)} files, expected {expected}")
    return path


def image_name(data: DataSettings) -> str:
    """What messages call the files."""
    names = (str(data.image),) if data.image is None or isinstance(data.image, str) else data.image
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def image_option(data: DataSettings) -> str:
    """What messages call the image: where its shape is given, that may be wrong."""
    return "data.image" if data.shape is None else f"data.image (data.shape={list(data.shape)})"


def image_of(data: DataSettings, reader: Reader, expected: str) -> Float[np.ndarray, "rows cols"]:
    """The image of a file as it is, counts or not: of a stack one frame, or the mean of all;
    `expected` is said where no file is named.

    **Raises:** `InputError` for a file that cannot be used, and a frame that a stack lacks.
    """
    paths = image_files(data, expected)
    return reader.once(
        ("image", paths, data.shape, data.stack), lambda: _one_image(paths, data, reader)
    )


def _one_image(
    paths: tuple[Path, ...], data: DataSettings, reader: Reader
) -> Float[np.ndarray, "rows cols"]:
    if isinstance(data.stack, str) and data.stack != "mean":
        raise InputError(f"data.stack: found {data.stack!r}, expected mean or a frame's number")
    frames = _all_frames(paths, data)
    if isinstance(data.stack, int):
        if data.stack >= len(frames):
            raise InputError(
                f"data.stack: found {data.stack}, expected 0 to {len(frames) - 1}: "
                f"{image_name(data)} has {len(frames)} frames"
            )
        frames = frames[data.stack : data.stack + 1]
    with np.errstate(over="ignore", invalid="ignore"):  # whoever wants finite numbers looks
        if len(frames) == 1:
            return np.asarray(frames[0], dtype=np.float64)
        mean, drifts = registered_mean(frames)
    reader.warn(
        f"the image is the mean of the {len(frames)} frames of {image_name(data)}, which drift by "
        f"up to {np.hypot(*drifts.T).max():.1f} pixels; data.stack=0 takes the first alone"
    )
    return mean


def frames_of(data: DataSettings, reader: Reader) -> Float[np.ndarray, "frames rows cols"]:
    """All frames of a stack, or of a list of files, or their crop `data.frame`, each with its
    vacuum at 1.

    **Raises:** `InputError` for a file that cannot be used, and a frame that is not normalised and
    cannot be.
    """
    paths = image_files(data, "a stack of frames")

    def read() -> Float[np.ndarray, "frames rows cols"]:
        frames = np.asarray(_all_frames(paths, data), dtype=np.float64)
        option, name = image_option(data), image_name(data)
        names = [f"{option}: frame {k} of {name}" for k in range(len(frames))]
        frames = vacuum_at_1(frames, data, names, reader)
        if data.frame is None:
            return frames
        return np.array([crop(frame, data.frame, "data.frame") for frame in frames])

    known = data.shape, data.frame, data.counts, data.vacuum
    return reader.once(("frames", paths, *known), read)


def _all_frames(
    paths: tuple[Path, ...], data: DataSettings
) -> Shaped[np.ndarray, "frames rows cols"]:
    """The frames of all files, in their order.

    **Raises:** `InputError` for files that cannot be used, or whose frames or pixels differ.
    """
    if len(paths) == 1:
        return read_frames(paths[0], data.shape, image_option(data))
    found, pixels, known = [], 0, file_sampling(paths[0])
    for k, path in enumerate(paths):
        option = f"data.image[{k}]"
        frames = read_frames(path, data.shape, option)
        shape = found[0].shape[1:] if found else frames.shape[1:]
        if frames.shape[1:] != shape:
            raise InputError(
                f"{option}: {path} has frames of {list(frames.shape[1:])}, expected {list(shape)} "
                f"as in {paths[0]}"
            )
        sampling = file_sampling(path)
        if sampling is not None and known is not None and not np.allclose(sampling, known, 1e-3):
            raise InputError(
                f"{option}: {path} has pixels of {list(sampling)} nm, expected {list(known)} nm as "
                f"{paths[0]}"
            )
        pixels += frames.size
        if pixels > MOST_PIXELS:
            raise InputError(
                f"{option}: the files up to {path} have {pixels} pixels, expected at most "
                f"{MOST_PIXELS}"
            )
        found.append(frames)
    return np.concatenate(found)
