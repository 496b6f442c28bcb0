"""Options of stage `stitch`."""

import dataclasses
import typing

from qhrtem_jax.regions.settings import RegionsSettings


@dataclasses.dataclass(frozen=True)
class StitchOptions:
    """One model of the field from its regions, and its joint refinement."""

    result: str | None = None
    rounding: str = "cell"
    global_c1: str = "mean"
    refine: bool = True
    sweeps: int = 6
    block: tuple[int, int] | str = "auto"
    charges: dict[str, float] | None = None

    INPUTS: typing.ClassVar = ("result",)
    CHOICES: typing.ClassVar = {
        "rounding": ("cell", "slice", "none"),
        "global_c1": ("mean", "minimum"),
    }
    RANGES: typing.ClassVar = {"sweeps": (1, 1000), "block": (1, 1000), "charges": (-100.0, 100.0)}


@dataclasses.dataclass(frozen=True)
class FieldSettings(RegionsSettings):
    """Settings of a run."""

    stitch: StitchOptions = dataclasses.field(default_factory=StitchOptions)
