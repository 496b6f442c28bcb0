"""What stage `explore` reads and checks."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.exploration.settings import (
    ATOMS_RVAE,
    FFT_NMF,
    ExplorationSettings,
)
from qhrtem_jax.exploration.windows import (
    FEWEST_PERIODS,
    SMALLEST,
    Windows,
    longest_period,
    natural_side,
    windows_of,
)
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.frames import image_files, image_name, image_of
from qhrtem_jax.inputs.image import WHOLE, is_square, warn_unused
from qhrtem_jax.inputs.instrument import load_microscope
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.calibration import file_sampling
from qhrtem_jax.io.images import LEAST_PEAK_TO_PEAK, crop, read_mask
from qhrtem_jax.micrograph.counts import bad_pixels, without_bad
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.specimen import Crystal

CONTENT = 3
"""Latent numbers of a window besides its pose."""

UNUSED = (
    "dark",
    "vacuum_image",
    "roi_shape",
    "rois",
    "average",
    "vacuum",
    "noise_variance",
    "noise_correlation",
    "noise_growth",
)
"""Options of `data` that say nothing of an image that is looked over."""

SMALLEST_IMAGE = 2 * SMALLEST

MOST_BAD = 0.1
"""Share of pixels that may be bad or masked."""


@dataclasses.dataclass(frozen=True)
class Simulated:
    """What training images are simulated with; `sampling_nm` (row, col) of the experiment."""

    space: ParameterSpace
    crystal: Crystal
    microscope: Microscope
    sampling_nm: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ExplorationProblem:
    """The image, in any unit, bad pixels filled from their neighbours; its windows; where what is
    looked for is (`truth`) and a part of it (`reference`), where these are given; what training
    images are simulated with, where some are."""

    settings: ExplorationSettings
    reader: Reader
    image: Float[np.ndarray, "rows cols"]
    windows: Windows
    truth: Bool[np.ndarray, "rows cols"] | None
    simulated: Simulated | None
    warnings: tuple[str, ...]

    @property
    def reference(self) -> Bool[np.ndarray, "grid_rows grid_cols"] | None:
        """Windows whose centre is in the reference region."""
        given = self.settings.explore.reference
        if given is None:
            return None
        row, col, rows, cols = given
        inside = (self.windows.rows >= row) & (self.windows.rows < row + rows)
        beside = (self.windows.cols >= col) & (self.windows.cols < col + cols)
        return inside[:, None] & beside


def prepare(settings: ExplorationSettings, reader: Reader) -> ExplorationProblem:
    """Read the image, and what else is given.

    **Raises:** `InputError` for input that cannot be used.
    """
    data, options = settings.data, settings.explore
    files, path = image_files(data, "an image to look over"), image_name(data)
    image = image_of(data, reader, "an image to look over")
    if data.frame is not None:
        image = crop(image, data.frame, "data.frame")
    if min(image.shape) < SMALLEST_IMAGE:
        raise InputError(
            f"data.image: {path} has {list(image.shape)} pixels, expected at least "
            f"{SMALLEST_IMAGE} a side"
        )
    if not np.isfinite(image).any():
        raise InputError(f"data.image: {path} has no pixel that is a number")
    bad = bad_pixels(image)
    if data.mask is not None:
        bad |= _marked(settings, data.mask, "data.mask", image.shape)
    if bad.mean() > MOST_BAD:
        raise InputError(
            f"data.image: {path} has {bad.sum()} bad or masked pixels of {bad.size}, expected at "
            f"most {100 * MOST_BAD:g} %"
        )
    image = without_bad(image, bad)
    if not np.ptp(image) > LEAST_PEAK_TO_PEAK * np.abs(image).max():
        raise InputError(f"data.image: {path} is flat, expected an image of something")
    side = options.window_px or natural_side(image)
    if side > min(image.shape) // 2:
        raise InputError(
            f"explore.window_px: found {side}, expected at most half the image's smaller side, "
            f"{min(image.shape) // 2} pixels"
        )
    if side < FEWEST_PERIODS * (period := longest_period(image)):
        reader.warn(
            f"explore.window_px: windows of {side} pixels hold {side / period:.1f} of the "
            f"lattice's longest periods ({period:.0f} pixels), which hardly tells one lattice from "
            f"another: expected at least {FEWEST_PERIODS:g} of them"
        )
    windows = windows_of(image.shape, side)
    settings = _at_most(settings, windows, reader)
    _check_numbers(settings, windows)
    _check_libraries(settings)
    warn_unused(data, UNUSED, WHOLE, reader)
    truth = None
    if options.truth is not None:
        truth = _truth(settings, image.shape)
    simulated = None
    if options.workflow == ATOMS_RVAE:
        sampling = data.sampling if data.sampling_nm is not None else file_sampling(files[0])
        if sampling is None:
            raise InputError("data.sampling_nm: none given, expected nm per pixel, as 0.00887")
        if not is_square(sampling):
            raise InputError(
                f"data.sampling_nm: found {list(sampling)}, expected square pixels: images are "
                "turned to train the atom finder"
            )
        simulated = Simulated(
            parameter_space(settings),
            load_crystal(settings, reader),
            load_microscope(settings, reader),
            sampling,
        )
    size.require(
        size.exploration(
            settings,
            image.shape,
            side,
            len(windows.centres),
            settings.explore.points,
            atoms=simulated is not None,
        ),
        settings,
    )
    problem = ExplorationProblem(
        settings, reader, image, windows, truth, simulated, reader.warnings()
    )
    inside = problem.reference
    if inside is not None and (not inside.any() or inside.all()):
        raise InputError(
            f"explore.reference: found {list(options.reference or ())}, expected [row0,col0,rows,"
            f"cols] that holds some, but not all, of the windows ({side} pixels a side)"
        )
    return problem


def _at_most(
    settings: ExplorationSettings, windows: Windows, reader: Reader
) -> ExplorationSettings:
    """The settings with no more points than there are windows."""
    options, count = settings.explore, len(windows.centres)
    if options.points <= count:
        return settings
    reader.warn(
        f"explore.points: {options.points} are more than the {count} windows of {windows.side} "
        "pixels that the image is covered with: all of them are measured"
    )
    return dataclasses.replace(settings, explore=dataclasses.replace(options, points=count))


def _check_numbers(settings: ExplorationSettings, windows: Windows) -> None:
    options, count = settings.explore, len(windows.centres)
    if options.component is not None and options.reference is not None:
        raise InputError(
            "explore.component: found one beside explore.reference, expected one of the two"
        )
    maps = options.components if options.workflow == FFT_NMF else CONTENT + 2
    if options.component is not None and options.component >= maps:
        raise InputError(
            f"explore.component: found {options.component}, expected 0 to {maps - 1}: "
            f"{options.workflow} makes {maps} maps"
        )
    if options.components >= count:
        raise InputError(
            f"explore.components: found {options.components}, expected fewer than the {count} "
            "windows"
        )


def _check_libraries(settings: ExplorationSettings) -> None:
    needed = "sklearn" if settings.explore.workflow == FFT_NMF else "flax"
    if importlib.util.find_spec(needed) is None:
        raise InputError(
            f"explore.workflow: {settings.explore.workflow} needs {needed}, which is not "
            "installed: pip install 'qhrtem_jax[learn]'"
        )


def _truth(settings: ExplorationSettings, shape: tuple[int, int]) -> Bool[np.ndarray, "rows cols"]:
    name = settings.explore.truth
    assert name is not None
    found = _marked(settings, name, "explore.truth", shape)
    if not found.any() or found.all():
        raise InputError(
            f"explore.truth: {name} marks {'no pixel' if not found.any() else 'all pixels'}, "
            "expected some: not 0 where what is looked for is"
        )
    return found


def _marked(
    settings: ExplorationSettings, name: str, option: str, shape: tuple[int, int]
) -> Bool[np.ndarray, "rows cols"]:
    """Pixels of the image that a file marks."""
    found = read_mask(Path(name), option)
    if settings.data.frame is not None:
        found = crop(found, settings.data.frame, option)
    if found.shape != shape:
        raise InputError(
            f"{option}: {name} has {list(found.shape)} pixels, expected the image's {list(shape)}"
        )
    return found


def few_columns(found: int, least: int) -> InputError:
    """An image in which hardly a column of atoms is found."""
    return InputError(
        f"data.image: {found} columns of atoms are found, expected at least {least}: do "
        "specimen.structure, specimen.zone and data.sampling_nm belong to it?"
    )


def unlike_training(why: str) -> str:
    """What is said of an image that training images are not like."""
    return (
        f"the image is unlike those that the atom finder was trained on: {why}; compare the "
        "crystal, its zone and the sampling, or choose explore.workflow=fft_nmf"
    )
