"""The image of a run: read, cut, averaged, with the noise of its pixels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.frames import image_name, image_of, image_option
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.normalised import vacuum_at_1
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.rois import (
    check_contrast,
    choose_average,
    find_regions,
    overlapping,
    refuse_repeated,
    roi_shape,
)
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.io.images import crop
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import NoiseModel, measure_noise
from qhrtem_jax.micrograph.noise_growth import grown, noise_growth
from qhrtem_jax.physics.camera import Frame

SQUARE = 0.002
"""Share by which the sides of square pixels may differ."""

WHOLE = "the whole image, or data.frame of it, is"
"""What is used where regions are not."""

Origins = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The image that is fitted, and its noise (None: to be taken from the residual); `others`:
    further means that are fitted together with it; `hidden`: pixels that carry no weight."""

    image: Float[np.ndarray, "rows cols"]  # vacuum 1
    frame: Frame
    noise: NoiseModel | None
    others: tuple[Float[np.ndarray, "rows cols"], ...] = ()
    hidden: Bool[np.ndarray, "rows cols"] | None = None


def load_field(data: DataSettings, reader: Reader) -> Experiment:
    """The whole image, or its crop `data.frame`, with the noise of its pixels."""
    return reader.once(
        (
            "field",
            data.image,
            data.shape,
            data.stack,
            data.frame,
            *_of_noise(data),
            data.sampling_nm,
            data.counts,
        ),
        lambda: _read_field(data, reader),
    )


def _read_field(data: DataSettings, reader: Reader) -> Experiment:
    sampling = data.sampling
    for option in ("dark", "vacuum_image", "mask", "illumination"):
        if getattr(data, option) not in (None, "none") and data.prepared is None:
            raise InputError(
                f"data.{option}: only stage prepare uses it, expected no data.roi_shape, data.rois,"
                " data.average and data.frame beside it, or data.prepared=DIR"
            )
    whole = image_of(data, reader, "an image file")
    name = f"{image_option(data)}: {image_name(data)}"
    (whole,) = vacuum_at_1(whole[None], data, [name], reader)
    image = whole if data.frame is None else crop(whole, data.frame, "data.frame")
    check_contrast(image, "data.image" if data.frame is None else "data.frame")
    noise = _noise(data, whole)
    if noise is not None and noise.remark is not None:
        reader.warn(noise.remark)
    if noise is None:
        reader.warn(
            "no data.vacuum or data.noise_variance given: the noise is taken from the residual"
        )
    frame = Frame(image.shape, sampling)  # type: ignore[arg-type]
    return Experiment(image, frame, noise, hidden=_hidden(data))


def _hidden(data: DataSettings) -> Bool[np.ndarray, "rows cols"] | None:
    """Pixels of a prepared image that the file does not show; None where it shows all."""
    if data.prepared is None:
        return None
    seen = RunFolder(Path(data.prepared)).read_arrays()["seen"]
    return None if seen.all() else ~seen


def is_square(sampling_nm: tuple[float, float]) -> bool:
    """Whether pixels of such sides are."""
    return abs(sampling_nm[0] / sampling_nm[1] - 1.0) <= SQUARE


def warn_unused(data: DataSettings, options: Sequence[str], instead: str, reader: Reader) -> None:
    """Says of options that are given, but not used, what is used instead."""
    for option in options:
        if getattr(data, option) is not None:
            reader.warn(f"data.{option} is not used: {instead}")


def _of_noise(data: DataSettings) -> tuple:
    return data.vacuum, data.noise_variance, data.noise_correlation, data.noise_growth


def of_several(data: DataSettings) -> bool:
    """Whether `data.average` asks for several means, as a list of lists."""
    average = data.average
    if not isinstance(average, tuple) or not average:
        return False
    return not average[0] or isinstance(average[0][0], tuple)


def averages(data: DataSettings, field: Experiment, reader: Reader) -> list[Origins]:
    """Origins of the ROIs of each mean that `data.average` asks for; none: the image itself."""
    if data.average is None:
        return []
    roi_shape(data)  # refuses a missing or an empty one
    if isinstance(data.average, str):
        regions = find_regions(data, field.image, field.noise)
        key = (
            "average",
            data.image,
            data.stack,
            data.frame,
            data.roi_shape,
            data.rois,
            *_of_noise(data),
        )
        return [reader.once(key, lambda: choose_average(regions))]
    if not data.average:
        raise InputError("data.average: found an empty list, expected [[row0,col0],...]")
    groups = data.average if of_several(data) else (data.average,)
    if not all(groups):
        raise InputError("data.average: found an empty list, expected [[row0,col0],...]")
    # nor in two means: they are fitted together as independent measurements
    refuse_repeated([origin for group in groups for origin in group], "data.average")  # type: ignore[arg-type]
    return list(groups)  # type: ignore[arg-type]


def averaged_data(data: DataSettings, reader: Reader) -> DataSettings:
    """Data of a mean of regions, from data of a field: which regions (`auto` where none are named),
    and the noise, which is given for a pixel of the field, of their mean."""
    if data.average is None and data.roi_shape is not None:
        data = dataclasses.replace(data, average="auto")
    field = load_field(data, reader)
    groups = averages(data, field, reader)
    if not groups:
        return data
    variance = data.noise_variance
    return dataclasses.replace(
        data,
        average=groups[0] if len(groups) == 1 else tuple(groups),
        noise_variance=None if variance is None else variance / len(groups[0]),
    )


def warn_of_overlap(groups: list[Origins], shape: tuple[int, int], reader: Reader) -> None:
    """Says that regions of means share pixels, whose noise then averages less than is assumed."""
    pairs = overlapping([origin for group in groups for origin in group], shape)
    if pairs:
        one, other = (list(origin) for origin in pairs[0])
        reader.warn(
            f"data.average: {len(pairs)} pairs of regions overlap, as {other} and {one}: their "
            "noise is not independent, so errors are stated too small"
        )


def mean_region(
    data: DataSettings, field: Experiment, origins: Origins
) -> Float[np.ndarray, "roi_rows roi_cols"]:
    """Mean of the ROIs at `origins`, of what they show; where none shows anything, of what they
    are filled with."""
    assert data.roi_shape is not None
    places = [(*origin, *data.roi_shape) for origin in origins]
    rois = np.array([crop(field.image, place, "data.average") for place in places])
    shown = np.ones(rois.shape)
    if field.hidden is not None:
        shown = np.array([~crop(field.hidden, place, "data.average") for place in places], float)
    shown = np.where(shown.sum(axis=0) > 0.0, shown, 1.0)
    mean = np.sum(shown * rois, axis=0) / shown.sum(axis=0)
    check_contrast(mean, "data.average")
    return mean


def load_experiment(data: DataSettings, reader: Reader) -> Experiment:
    """The image to fit: the whole image, a crop of it, or the mean of some of its ROIs; with
    several means, the first, and the others beside it."""
    field = load_field(data, reader)
    image, noise = field.image, field.noise
    groups = averages(data, field, reader)
    others = tuple(mean_region(data, field, group) for group in groups[1:])
    if groups:
        warn_of_overlap(groups, roi_shape(data), reader)
    if noise is not None and len({len(group) for group in groups}) > 1:
        reader.warn(
            "data.average: the means are of different numbers of ROIs, the noise is the first's"
        )
    if groups:
        image = mean_region(data, field, groups[0])
        if noise is not None and noise.source == "vacuum":
            # a measured noise is that of a single ROI
            noise = noise.of_average(len(groups[0]))
    elif data.roi_shape is not None and image.shape != data.roi_shape:
        raise InputError(
            f"data.roi_shape: found {list(data.roi_shape)} for an image of {list(image.shape)}: "
            "say with data.average=[[row0,col0],...] which ROIs to fit, or crop with data.frame"
        )
    frame = Frame(image.shape, field.frame.sampling_nm)  # type: ignore[arg-type]
    return Experiment(image, frame, noise, others)


def _noise(data: DataSettings, whole: np.ndarray) -> NoiseModel | None:
    """Noise of a pixel, as given or as measured."""
    if data.noise_variance is not None:
        with named("data.noise_correlation"):
            lags = tuple(data.noise_correlation or ())
            return NoiseModel(data.noise_variance, lags, growth=data.noise_growth or 0.0)
    if data.noise_correlation is not None:
        raise InputError("data.noise_correlation: needs data.noise_variance beside it")
    if data.vacuum is None:
        if data.noise_growth is not None:
            raise InputError(
                "data.noise_growth: needs data.vacuum or data.noise_variance beside it"
            )
        return None
    patch = crop(whole, data.vacuum, "data.vacuum")
    with named("data.vacuum"):
        noise = measure_noise(patch)
    growth = data.noise_growth
    if growth is None:
        growth = grown(noise_growth(whole), noise.variance)
    return dataclasses.replace(noise, growth=growth)
