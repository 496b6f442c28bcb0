"""What stage `prepare` reads and checks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.frames import image_files, image_of
from qhrtem_jax.inputs.image import warn_unused
from qhrtem_jax.inputs.instrument import load_microscope
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.normalised import is_raw, warn_of_contrast, warn_of_level
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.calibration import file_sampling
from qhrtem_jax.io.images import crop, read_counts, read_mask
from qhrtem_jax.matching.noise import NoiseModel, measure_noise
from qhrtem_jax.micrograph.counts import (
    MOST_BAD,
    Vacuum,
    bad_pixels,
    find_vacuum,
    illumination,
    normalised,
    without_bad,
)
from qhrtem_jax.micrograph.noise_growth import NoiseGrowth, noise_growth
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.specimen import Crystal

UNUSED = (
    "roi_shape",
    "rois",
    "average",
    "frame",
    "noise_variance",
    "noise_correlation",
    "noise_growth",
)
"""Options of `data` that say what is to be found."""

OBLONG = 2.0
"""A pixel is at most so many times as long as wide."""

MOST_MASKED = 0.1
"""Share of pixels of an image that may be masked."""


@dataclasses.dataclass(frozen=True)
class PreparationProblem:
    """The image with the vacuum at 1, `bad` pixels filled from their neighbours, its vacuum (in the
    file's unit), the noise of a pixel there and how it grows with the intensity, and the sampling,
    (row, col) nm, that the file and the user give."""

    settings: Settings
    reader: Reader
    space: ParameterSpace
    image: Float[np.ndarray, "rows cols"]
    bad: Bool[np.ndarray, "rows cols"]
    vacuum: Vacuum | None
    noise: NoiseModel | None
    growth: NoiseGrowth | None
    file_sampling: tuple[float, float] | None
    given_sampling: tuple[float, float] | None
    crystal: Crystal
    microscope: Microscope
    warnings: tuple[str, ...]


def prepare(settings: Settings, reader: Reader) -> PreparationProblem:
    """Read the image, and bring it to vacuum 1.

    **Raises:** `InputError` for input that cannot be used.
    """
    data = settings.data
    space = parameter_space(settings)
    path = image_files(data, "an image of a crystal")[0]
    counts = image_of(data, reader, "an image of a crystal")
    crystal = load_crystal(settings, reader)
    microscope = load_microscope(settings, reader)
    warn_unused(data, UNUSED, "prepare finds it", reader)
    bad = bad_pixels(counts)
    if bad.mean() > MOST_BAD:
        raise InputError(
            f"data.image: {path} has {bad.sum()} bad pixels of {bad.size}, expected at most "
            f"{100 * MOST_BAD:g} %"
        )
    if data.mask is not None:
        bad |= _beside(counts, data.mask, "data.mask", read_mask)
        if bad.mean() > MOST_MASKED:
            raise InputError(
                f"data.mask: {data.mask} hides {100 * bad.mean():.0f} % of the image, expected at "
                f"most {100 * MOST_MASKED:g} %"
            )
    counts = without_bad(counts, bad)
    if data.dark is not None:
        counts = counts - _beside(counts, data.dark, "data.dark")
    if data.vacuum_image is not None:
        counts = counts / _light(counts, data.vacuum_image)
    vacuum = _vacuum(settings, counts, reader)
    if data.illumination == "plane":
        counts = counts / _slope(counts, vacuum, reader)
        vacuum = _vacuum(settings, counts, reader)
    image = _with_vacuum_at_1(settings, counts, vacuum, reader)
    noise, growth = None, None
    if vacuum is not None:
        with named("data.vacuum"):
            noise = measure_noise(crop(image, vacuum.region, "data.vacuum"))
        growth = noise_growth(image, bad)
    given = None if data.sampling_nm is None else data.sampling
    of_file = file_sampling(path)
    known = given or of_file
    if known is not None and max(known) > OBLONG * min(known):
        raise InputError(
            f"data.sampling_nm: found {known[0]:.5g} nm along rows and {known[1]:.5g} along columns"
            f" of {path}, expected sides of pixels that differ by a factor of {OBLONG:g} at most"
        )
    return PreparationProblem(
        settings,
        reader,
        space,
        image,
        bad,
        vacuum,
        noise,
        growth,
        of_file,
        given,
        crystal,
        microscope,
        reader.warnings(),
    )


def _beside(
    counts: np.ndarray,
    name: str,
    option: str,
    read: Callable[..., Shaped[np.ndarray, "rows cols"]] = read_counts,
) -> Shaped[np.ndarray, "rows cols"]:
    """A further image of the same camera."""
    found = read(Path(name), option=option)
    if found.shape != counts.shape:
        raise InputError(
            f"{option}: {name} has shape {list(found.shape)}, expected {list(counts.shape)} as "
            "the image"
        )
    return found


def _light(counts: np.ndarray, name: str) -> Float[np.ndarray, "rows cols"]:
    """What the camera shows without specimen, its mean 1."""
    light = _beside(counts, name, "data.vacuum_image")
    light = without_bad(light, bad_pixels(light))
    if not np.all(light > 0.0):
        raise InputError(f"data.vacuum_image: {name} has pixels of 0 or less, expected light")
    return light / light.mean()


def _slope(
    counts: np.ndarray, vacuum: Vacuum | None, reader: Reader
) -> Float[np.ndarray, "rows cols"]:
    """The light over the image, as a plane through that of the vacuum."""
    if vacuum is None:
        raise InputError(
            "data.illumination: found no vacuum in the image, expected one, or data.vacuum, to "
            "measure the slope of the light in"
        )
    found = illumination(counts, vacuum)
    light = found.over(counts.shape)
    if not np.all(light > 0.1):
        raise InputError(
            f"data.illumination: found a slope of {found.slope} per pixel in the vacuum "
            f"{list(vacuum.region)}, which leaves no light elsewhere"
        )
    across, down = (
        100.0 * n * np.array(s)
        for n, s in zip(
            counts.shape[::-1], zip(found.slope[::-1], found.std[::-1], strict=True), strict=True
        )
    )
    reader.warn(
        f"the light is taken as a plane: {across[0]:+.2f} ± {across[1]:.2f} % from left to right, "
        f"{down[0]:+.2f} ± {down[1]:.2f} % from top to bottom of the image, measured in the vacuum"
    )
    return light


def _vacuum(settings: Settings, counts: np.ndarray, reader: Reader) -> Vacuum | None:
    region = settings.data.vacuum
    if region is None:
        return find_vacuum(counts)
    warn_of_contrast(region, counts[None], reader)
    return Vacuum(region, float(np.mean(crop(counts, region, "data.vacuum"))))


def _with_vacuum_at_1(
    settings: Settings, counts: np.ndarray, vacuum: Vacuum | None, reader: Reader
) -> Float[np.ndarray, "rows cols"]:
    """The image as intensities; as they are where they are near 1 already, or said to be."""
    if is_raw(settings.data, counts):
        if vacuum is None:
            raise InputError(
                "data.vacuum: none given, and none was found in the image, expected "
                "[row0,col0,rows,cols] of a part without specimen to divide the counts by"
            )
        with named("data.vacuum"):
            return normalised(counts, vacuum.level)
    if vacuum is None:
        reader.warn("no vacuum was found in the image: its level and its noise are not known")
    else:
        warn_of_level(vacuum.level, reader)
    return counts
