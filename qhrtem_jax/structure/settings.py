"""Options of stage `structure`."""

import dataclasses
import typing

from qhrtem_jax.errors import InputError
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


def check_candidates(settings: StructureSettings) -> None:
    """Refuse what `specimen.candidates` does not go with.

    **Raises:** `InputError` that names the field, what was found and what was expected.
    """
    known = settings.specimen
    if known.candidates is None:
        return
    if settings.stage != "structure":
        raise InputError(
            f"specimen.candidates: found {len(known.candidates)} in stage {settings.stage}, "
            "expected specimen.structure: stage structure compares candidates"
        )
    if known.structure is not None:
        raise InputError(
            f"specimen.candidates: found beside specimen.structure={known.structure}, expected "
            "one of them"
        )
    if len(known.candidates) < 2 or len(set(known.candidates)) < len(known.candidates):
        raise InputError(
            f"specimen.candidates: found {list(known.candidates)}, expected two or more different "
            "files"
        )
    if settings.imaging.result is not None:
        raise InputError(
            f"imaging.result: found {settings.imaging.result}, expected none beside "
            "specimen.candidates: the imaging parameters are fitted to each"
        )
    if settings.structure.imaging == "fixed":
        raise InputError(
            "structure.imaging: found fixed beside specimen.candidates, expected alternate or "
            "joint: what is not fitted together has no evidence"
        )
