"""The MTF of a camera, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import Result


@dataclasses.dataclass(frozen=True)
class KnifeEdge:
    """The edge: its inclination against the columns (or the rows), the levels of its sides in the
    image's unit, and up to which distance its spread is known."""

    angle_deg: float
    along: str
    dark: float
    bright: float
    length_px: int
    reach_px: float


@dataclasses.dataclass(frozen=True)
class Point:
    """The MTF at one frequency in 1/pixel."""

    frequency: float
    value: float
    std: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnifeEdgeResult(Result):
    """The MTF along the normal of the edge; `pixel`: whether the square of the pixels is `apart`
    from it, as `data.mtf` wants it, or `included`. All of it is in `mtf.csv`."""

    edge: KnifeEdge
    pixel: str
    mtf: tuple[Point, ...]
