"""Options of stage `structure`."""

import dataclasses
import typing

from qhrtem_jax.inputs.settings import STD_NM, Settings


@dataclasses.dataclass(frozen=True)
class StructureOptions:
    """Refinement of column positions and occupancies; priors are standard deviations."""

    imaging: str = "alternate"
    position_std_nm: float = 0.01
    occupancy_std: float = 0.2
    rounds: int = 4

    CHOICES: typing.ClassVar = {"imaging": ("fixed", "alternate", "joint")}
    RANGES: typing.ClassVar = {
        "position_std_nm": STD_NM,
        "occupancy_std": (1e-6, 10.0),
        "rounds": (1, 1000),
    }


@dataclasses.dataclass(frozen=True)
class StructureSettings(Settings):
    """Settings of a run."""

    structure: StructureOptions = dataclasses.field(default_factory=StructureOptions)
