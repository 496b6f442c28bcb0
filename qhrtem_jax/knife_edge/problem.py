"""What stage `mtf` reads and checks."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.images import crop, read_pixels
from qhrtem_jax.knife_edge.edge import Edge, find_edge
from qhrtem_jax.knife_edge.settings import KnifeEdgeSettings
from qhrtem_jax.knife_edge.transfer import Transfer, measure


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
    if data.image is None:
        raise InputError("data.image: none given, expected the image of a knife edge")
    image = read_pixels(Path(data.image), data.shape)
    if data.frame is not None:
        image = crop(image, data.frame, "data.frame")
    try:
        edge = find_edge(image)
        transfer = measure(image, edge, settings.mtf.reach_px)
    except InputError as error:
        raise InputError(f"data.image: {data.image}: {error}") from None
    reach = -float(transfer.distance_px[0])
    if reach < 0.9 * settings.mtf.reach_px:
        reader.warn(
            f"the edge's spread is known up to {reach:.0f} pixels only (mtf.reach_px="
            f"{settings.mtf.reach_px:g}): what the camera spreads further is missing from the MTF"
        )
    return KnifeEdgeProblem(settings, reader, image, edge, transfer, reader.warnings())
