"""Images with the vacuum at 1: as they are, or counts that are divided by those of the vacuum."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.io.images import MEAN_RANGE, check_normalised, crop
from qhrtem_jax.micrograph.counts import (
    MOST_BAD,
    bad_pixels,
    contrast_of,
    find_vacuum,
    normalised,
    without_bad,
)

LIVELY_VACUUM = 6.0
"""In a vacuum no part varies by so many times what others do; noise alone gives about 2."""

OFF = 0.02
"""A vacuum that is further from 1 than this is worth a word."""


def is_raw(data: DataSettings, image: Float[np.ndarray, "rows cols"]) -> bool:
    """Whether an image holds counts, as it is said to or as it looks (a few hot pixels do not
    matter): its vacuum is not at 1."""
    if isinstance(data.counts, bool):
        return data.counts
    finite = image[np.isfinite(image)]
    level = float(np.median(finite)) if finite.size else 0.0
    return not MEAN_RANGE[0] <= level <= MEAN_RANGE[1]


def vacuum_at_1(
    images: Float[np.ndarray, "frames rows cols"],
    data: DataSettings,
    names: Sequence[str],
    reader: Reader,
) -> Float[np.ndarray, "frames rows cols"]:
    """Images as fits want them: with `data.counts=true` each is divided by its own mean in
    `data.vacuum` (stage prepare finds by itself what are counts, and their vacuum); `names` of the
    images begin messages.

    **Raises:** `InputError` for an image that is not normalised, and for counts without a vacuum.
    """
    counts = data.prepared is None and data.counts is True
    if counts and data.vacuum is None:
        raise InputError(
            "data.vacuum: none given, expected [row0,col0,rows,cols] of a part without specimen to "
            f"divide the counts of {names[0]} by"
        )
    if counts and np.all(np.isfinite(images)):
        images = _divided(images, data, names, reader)
    advice = (
        "divide the image by the intensity of the vacuum, or say that it holds counts "
        "(data.counts=true) and where the vacuum is (data.vacuum)"
    )
    for image, name in zip(images, names, strict=True):
        check_normalised(image, name, advice)
    if data.vacuum is not None:
        warn_of_contrast(data.vacuum, images, reader)
        if not counts:
            warn_of_level(float(np.mean(crop(images[0], data.vacuum, "data.vacuum"))), reader)
    return images


def _divided(
    images: Float[np.ndarray, "frames rows cols"],
    data: DataSettings,
    names: Sequence[str],
    reader: Reader,
) -> Float[np.ndarray, "frames rows cols"]:
    """Counts of the vacuum of each image at 1, bad pixels there filled from their neighbours."""
    assert data.vacuum is not None
    found, known = images.copy(), 0
    for image in found:
        bad = bad_pixels(image)
        if bad.mean() > MOST_BAD:  # single electrons, more likely
            bad[:] = False
        known += int(bad.sum())
        with named("data.vacuum"):
            patch = crop(image, data.vacuum, "data.vacuum")
            spoilt = crop(bad.astype(float), data.vacuum, "data.vacuum") > 0.0
            patch[:] = without_bad(patch, spoilt)
            image[:] = normalised(image, float(np.mean(patch)))
    if known:
        reader.warn(
            f"{names[0].partition(': frame')[0]} has {known} bad pixels, which weigh as all others "
            "outside of the vacuum: stage prepare leaves them out, where no regions are named"
        )
    return found


def warn_of_level(level: float, reader: Reader) -> None:
    """Says that the vacuum is not at 1."""
    if abs(level - 1.0) > OFF:
        reader.warn(
            f"the vacuum of the image is {level:.3f}, expected 1: data.counts=true divides by it"
        )


def warn_of_contrast(
    region: tuple[int, int, int, int],
    images: Float[np.ndarray, "frames rows cols"],
    reader: Reader,
) -> None:
    """Says that a vacuum holds a part of the crystal, whose contrast would pass as noise; of
    several images, of the first where it does."""
    for k, image in enumerate(images):
        contrast = contrast_of(crop(image, region, "data.vacuum"))
        if contrast >= LIVELY_VACUUM:
            found = find_vacuum(image)
            other = "" if found is None else f"; the image looks empty in {list(found.region)}"
            where = f" in frame {k}" if len(images) > 1 else ""
            reader.warn(
                f"data.vacuum={list(region)} is not empty{where}: parts of it vary {contrast:.0f} "
                f"times as much as others, so the noise is stated too large{other}"
            )
            return
