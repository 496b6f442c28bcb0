"""Images with the vacuum at 1: as they are, or counts that are divided by those of the vacuum."""

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.io.images import MEAN_RANGE, check_normalised, crop
from qhrtem_jax.micrograph.counts import normalised


def is_raw(data: DataSettings, image: Float[np.ndarray, "rows cols"]) -> bool:
    """Whether an image holds counts, as it is said to or as it looks (a few hot pixels do not
    matter): its vacuum is not at 1."""
    if isinstance(data.counts, bool):
        return data.counts
    finite = image[np.isfinite(image)]
    level = float(np.median(finite)) if finite.size else 0.0
    return not MEAN_RANGE[0] <= level <= MEAN_RANGE[1]


def vacuum_at_1(
    image: Float[np.ndarray, "rows cols"], data: DataSettings, where: str
) -> Float[np.ndarray, "rows cols"]:
    """An image as fits want it: counts are divided by their mean in `data.vacuum`, if that is
    given (stage prepare finds it by itself); `where` begins messages.

    **Raises:** `InputError` for an image that is not normalised and cannot be.
    """
    raw = data.prepared is None and is_raw(data, image)
    if raw and data.vacuum is not None:
        with named("data.vacuum"):
            image = normalised(image, float(np.mean(crop(image, data.vacuum, "data.vacuum"))))
    elif raw and data.counts is True:
        raise InputError(
            "data.vacuum: none given, expected [row0,col0,rows,cols] of a part without specimen to "
            f"divide the counts of {where} by"
        )
    advice = "divide the image by the intensity of the vacuum, or name its part as data.vacuum"
    check_normalised(image, where, advice)
    return image
