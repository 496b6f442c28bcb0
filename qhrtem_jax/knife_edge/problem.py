"""What stage `mtf` reads and checks."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.frames import image_file, image_option
from qhrtem_jax.inputs.image import WHOLE, warn_unused
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.images import crop, read_pixels
from qhrtem_jax.knife_edge.edge import Edge, find_edge
from qhrtem_jax.knife_edge.settings import KnifeEdgeSettings
from qhrtem_jax.knife_edge.transfer import Transfer, measure

UNUSED = ("mtf", "roi_shape", "rois", "average", "vacuum")
"""Options of `data` that say nothing of an edge."""

LEFT = 0.01
"""Change of the edge spread far from the edge that is spoken of, as a share of its height."""

SATURATED = 0.05
"""Share of pixels of one value that is spoken of."""


@dataclasses.dataclass(frozen=True)
class KnifeEdgeProblem:
    """The image of an edge, in any unit, and what was found in it: whether it can be used shows
    only when it is measured, which takes no time."""

    settings: KnifeEdgeSettings
    reader: Reader
    image: Float[np.ndarray, "rows cols"]
    edge: Edge
    transfer: Transfer
    warnings: tuple[str, ...]


def prepare(settings: KnifeEdgeSettings, reader: Reader) -> KnifeEdgeProblem:
    """Read the image and find its edge.

    **Raises:** `InputError` for input that cannot be used.
    """
    data = settings.data
    path = image_file(data, "the image of a knife edge")
    image = read_pixels(path, data.shape, image_option(data))
    if data.frame is not None:
        image = crop(image, data.frame, "data.frame")
    size.require(size.knife_edge(image.shape, settings.mtf.reach_px), settings)
    with named(f"data.image: {path}, or data.frame of it"):
        edge = find_edge(image)
        transfer = measure(image, edge, settings.mtf.reach_px)
    warn_unused(data, UNUSED, WHOLE, reader)
    warnings = (*reader.warnings(), *remarks(image, transfer, settings.mtf.reach_px))
    return KnifeEdgeProblem(settings, reader, image, edge, transfer, warnings)


def remarks(
    image: Float[np.ndarray, "rows cols"], transfer: Transfer, reach_px: float
) -> tuple[str, ...]:
    """What makes an MTF doubtful."""
    said = []
    if transfer.reach_px < 0.9 * reach_px:
        said.append(
            f"the edge's spread is known up to {transfer.reach_px:.0f} pixels only (mtf.reach_px="
            f"{reach_px:g}): what the camera spreads further is missing from the MTF"
        )
    left, std = transfer.left
    if abs(left) > max(LEFT, 3.0 * std):
        said.append(
            f"{transfer.reach_px:.0f} pixels from the edge the intensity still changes, by "
            f"{100 * left:.1f} % of the edge's height over as many pixels: uneven illumination, or "
            "a wide halo (a larger mtf.reach_px shows it); at low frequencies the MTF is wrong by "
            "about as much"
        )
    for name, level in (("largest", image.max()), ("smallest", image.min())):
        share = float(np.mean(image == level))
        if share > SATURATED:
            said.append(
                f"{100 * share:.0f} % of the pixels have the {name} value, {level:g}: is the "
                "camera saturated, or the image clipped?"
            )
    if transfer.outliers:
        said.append(f"{transfer.outliers} pixels stand out from the edge's spread: not used")
    above = transfer.value - 1.0
    if np.any(above > np.maximum(0.02, 3.0 * transfer.std)):
        said.append(
            f"the MTF rises to {transfer.value.max():.2f}: was the image sharpened, or divided by "
            "a dark or bright image that has an edge?"
        )
    return tuple(said)
