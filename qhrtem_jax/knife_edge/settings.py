"""Options of stage `mtf`."""

import dataclasses
import typing

from qhrtem_jax.inputs.settings import Settings

PIXEL = ("apart", "included")


@dataclasses.dataclass(frozen=True)
class MtfOptions:
    """How far the edge is looked at, and whether the square of the pixels is divided out."""

    reach_px: float = 64.0
    pixel: str = "apart"

    CHOICES: typing.ClassVar = {"pixel": PIXEL}
    RANGES: typing.ClassVar = {"reach_px": (8.0, 4096.0)}


@dataclasses.dataclass(frozen=True)
class KnifeEdgeSettings(Settings):
    """Settings of a run."""

    mtf: MtfOptions = dataclasses.field(default_factory=MtfOptions)
