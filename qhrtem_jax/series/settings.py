"""Options of stage `series`."""

import dataclasses
import typing

from qhrtem_jax.field.settings import FieldSettings


@dataclasses.dataclass(frozen=True)
class SeriesOptions:
    """How a field may change from one frame to the next."""

    rate: float = 0.01

    RANGES: typing.ClassVar = {"rate": (1e-9, 0.3)}


@dataclasses.dataclass(frozen=True)
class SeriesSettings(FieldSettings):
    """Settings of a run."""

    series: SeriesOptions = dataclasses.field(default_factory=SeriesOptions)


def of_first_frame(settings: SeriesSettings) -> SeriesSettings:
    """Settings with which the first frame of a stack is looked at, and all regions are its."""
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, stack=0))
