"""Options of stage `simulate`."""

import dataclasses
import typing

from qhrtem_jax.inputs.settings import Settings


@dataclasses.dataclass(frozen=True)
class SimulateOptions:
    """Input and output of the simulate stage."""

    table: str | None = None
    out: str | None = None
    save_wave: bool = False
    save_diffraction: bool = False

    INPUTS: typing.ClassVar = ("table",)
    OUTPUTS: typing.ClassVar = ("out",)


@dataclasses.dataclass(frozen=True)
class SimulationSettings(Settings):
    """Settings of a run."""

    simulate: SimulateOptions = dataclasses.field(default_factory=SimulateOptions)
