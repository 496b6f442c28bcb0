"""Regions of interest of a field: where they are, which of them to average."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.io.images import LEAST_PEAK_TO_PEAK, crop
from qhrtem_jax.matching.noise import NoiseModel

log = logging.getLogger(__name__)

LEAST_CONTRAST = 0.3
"""A tile is crystal if its contrast exceeds this share of the strongest tile's, and the noise."""

LEAST_SIDE = 8
"""Pixels of an image or region along either axis that a crystal's contrast can be read from."""

AVERAGED_SHARE = 0.25
LEAST_AVERAGED = 3


@dataclasses.dataclass(frozen=True)
class Region:
    """A region of interest: `origin` (row, col) of its first pixel in the image; `corners_px`,
    (x, y) in the file of a prepared one, in the order origin, +a, +a+b, +b."""

    name: str
    origin: tuple[int, int]
    image: Float[np.ndarray, "rows cols"]
    corners_px: Float[np.ndarray, "4 2"] | None = None


def find_regions(
    data: DataSettings, image: Float[np.ndarray, "rows cols"], noise: NoiseModel | None
) -> tuple[Region, ...]:
    """The regions that `data.rois` names, or (`auto`, the default) all tiles that show crystal,
    numbered down the columns as in the paper.

    **Raises:** `InputError` where there are none, or one lies outside the image.
    """
    rows, cols = roi_shape(data) if data.roi_shape is not None else image.shape
    if isinstance(data.rois, tuple):
        origins = list(data.rois)
        refuse_repeated(data.rois, "data.rois")
    else:
        origins = _crystal_tiles(image, (rows, cols), noise)
    if not origins:
        raise InputError(
            "data.rois: found no region with crystal contrast, expected at least one; "
            "name them as [[row0,col0],...]"
        )
    regions = tuple(
        Region(f"ROI{k + 1}", origin, crop(image, (*origin, rows, cols), "data.rois"))
        for k, origin in enumerate(origins)
    )
    for region in regions:
        check_contrast(region.image, f"data.rois {list(region.origin)}")
    return regions


def roi_shape(data: DataSettings) -> tuple[int, int]:
    """(rows, cols) of a region.

    **Raises:** `InputError` where it is missing or too small.
    """
    shape = data.roi_shape
    if shape is None:
        raise InputError("data.roi_shape: needed as [rows,cols] with data.average")
    if min(shape) < LEAST_SIDE:
        raise InputError(
            f"data.roi_shape: found {list(shape)}, expected at least {LEAST_SIDE} pixels a side"
        )
    return shape


def check_contrast(image: Float[np.ndarray, "rows cols"], field: str) -> None:
    """**Raises:** `InputError` for an image too small or too even to show a crystal."""
    if min(image.shape) < LEAST_SIDE:
        raise InputError(
            f"{field}: found {image.shape[0]} x {image.shape[1]} pixels, expected at least "
            f"{LEAST_SIDE} x {LEAST_SIDE}"
        )
    if np.ptp(image) <= LEAST_PEAK_TO_PEAK * abs(np.mean(image)):
        raise InputError(f"{field}: the image is constant there ({image.flat[0]:g})")


def refuse_repeated(origins: Sequence[tuple[int, int]], field: str) -> None:
    """**Raises:** `InputError` if a region is named twice: it would count as two measurements."""
    twice = [origin for k, origin in enumerate(origins) if origin in origins[:k]]
    if twice:
        raise InputError(
            f"{field}: the region at {list(twice[0])} is named twice, expected each once"
        )


def overlapping(
    origins: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of regions that share pixels."""
    return [
        (one, other)
        for k, one in enumerate(origins)
        for other in origins[:k]
        if all(abs(a - b) < n for a, b, n in zip(one, other, shape, strict=True))
    ]


def _crystal_tiles(
    image: np.ndarray, shape: tuple[int, int], noise: NoiseModel | None
) -> list[tuple[int, int]]:
    if any(n < s for n, s in zip(image.shape, shape, strict=True)):
        raise InputError(f"data.roi_shape: found {list(shape)} in an image of {list(image.shape)}")
    rows, cols = (n // s for n, s in zip(image.shape, shape, strict=True))
    origins = [(i * shape[0], j * shape[1]) for j in range(cols) for i in range(rows)]
    contrast = np.array([np.std(image[r : r + shape[0], c : c + shape[1]]) for r, c in origins])
    least = LEAST_CONTRAST * np.max(contrast)
    if noise is not None:
        least = max(least, 2.0 * noise.variance**0.5)
    found = [o for o, c in zip(origins, contrast, strict=True) if c > least]
    log.info("data.rois=auto: %d of %d tiles show crystal", len(found), len(origins))
    return found


def choose_average(regions: tuple[Region, ...]) -> tuple[tuple[int, int], ...]:
    """Origins of the regions that are most alike: a quarter of them, at least three.

    Their mean has less noise and, since they are alike, is still close to an image of one crystal.
    """
    count = min(len(regions), max(LEAST_AVERAGED, round(AVERAGED_SHARE * len(regions))))
    flat = np.array([r.image.ravel() - r.image.mean() for r in regions])
    norm = np.linalg.norm(flat, axis=1)
    ncc = flat @ flat.T / np.outer(norm, norm)
    nearest = np.argsort(-ncc, axis=1)[:, :count]
    alike = np.take_along_axis(ncc, nearest, axis=1).mean(axis=1)
    chosen = sorted(int(k) for k in nearest[int(np.argmax(alike))])
    log.info(
        "data.average=auto: %s, the %d regions most alike (mean NCC %.3f, contrast %.3f to %.3f)",
        ", ".join(regions[k].name for k in chosen),
        count,
        np.max(alike),
        min(np.std(regions[k].image) for k in chosen),
        max(np.std(regions[k].image) for k in chosen),
    )
    return tuple(regions[k].origin for k in chosen)
