"""What a prepare run hands over: an image on the cells of a crystal, and where they are."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.frames import image_files, image_of
from qhrtem_jax.inputs.normalised import is_raw
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import DataSettings, Settings
from qhrtem_jax.io.calibration import file_sampling
from qhrtem_jax.io.run_folder import RunFolder

S = TypeVar("S", bound=Settings)

SEVERAL = 3.0
"""An image of more cells than this, more than one and a half along either edge, has to be cut into
them."""


def with_prepared(settings: S, reader: Reader) -> S:
    """Settings whose data are what the folder `data.prepared` holds; others as they are.

    **Raises:** `InputError` where the folder holds no prepare run.
    """
    data = settings.data
    if data.prepared is None:
        return settings
    image = str(Path(data.prepared) / "arrays.npz")
    if data.image == image:  # they are its settings already
        return settings
    result = _read(data.prepared, reader)
    known = result["prepared"]
    noise = data.noise_variance, data.noise_correlation, data.noise_growth
    if data.noise_variance is None and known["noise_variance"] is not None:
        growth = known.get("noise_growth") if data.noise_growth is None else data.noise_growth
        noise = known["noise_variance"], tuple(known["noise_correlation"]), growth
    found = dataclasses.replace(
        data,
        image=image,
        shape=None,
        stack="mean",
        sampling_nm=tuple(known["sampling_nm"]),
        roi_shape=tuple(known["roi_shape"]),
        rois=data.rois or tuple(tuple(roi["origin_px"]) for roi in result["rois"]),
        mtf_scale=data.mtf_scale * known["pixel_ratio"],
        frame=None,
        vacuum=None,
        noise_variance=noise[0],
        noise_correlation=noise[1],
        noise_growth=noise[2],
    )
    return dataclasses.replace(settings, data=found)


def corners_of(
    data: DataSettings, origins: list[tuple[int, int]], reader: Reader
) -> list[Float[np.ndarray, "4 2"] | None]:
    """Corners (x, y) in the file's pixels of the regions at `origins`; None where data were not
    prepared."""
    if data.prepared is None:
        return [None] * len(origins)
    known = {tuple(roi["origin_px"]): roi for roi in _read(data.prepared, reader)["rois"]}
    return [
        np.array(known[origin]["corners_px"]) if origin in known else None for origin in origins
    ]


def wants_preparation(settings: Settings, reader: Reader) -> bool:
    """Whether the image has to be prepared before it can be fitted: it holds counts, or several
    cells of the crystal and nothing says which to look at."""
    data = settings.data
    if data.prepared is not None or data.image is None or settings.specimen.structure is None:
        return False
    if any(x is not None for x in (data.roi_shape, data.rois, data.average, data.frame)):
        return False
    if any(x is not None for x in (data.dark, data.vacuum_image, data.mask)):
        return True
    if data.illumination != "none":
        return True
    counts = image_of(data, reader, "an image file")
    if is_raw(data, counts):
        return True
    sampling = (
        data.sampling
        if data.sampling_nm is not None
        else file_sampling(image_files(data, "an image file")[0])
    )
    if sampling is None:
        return True
    crystal = load_crystal(settings, reader)
    reader.warnings()  # said by whoever uses it
    size = np.array(counts.shape) * np.array(sampling) / np.array(crystal.size_nm[1::-1])
    return bool(size.min() > 1.5 and np.prod(size) > SEVERAL)


def _read(folder: str, reader: Reader) -> dict[str, Any]:
    path = Path(folder)

    def read() -> dict[str, Any]:
        result = RunFolder(path).read_result()
        if result.get("stage") != "prepare" or not isinstance(result.get("prepared"), dict):
            raise InputError(f"data.prepared: {path} holds no result of stage prepare")
        return result

    return reader.once(("prepared", folder), read)
