"""Options of stage `reconstruct`."""

import dataclasses
import typing

from qhrtem_jax.inputs.settings import STD_NM, Settings
from qhrtem_jax.refine.surfaces import Rule


@dataclasses.dataclass(frozen=True)
class ReconstructOptions:
    """Numbers of atoms of every region of interest."""

    positions: bool = True
    surface_rule: bool | str = True
    roughness_cells: float | None = 1.0
    position_std_nm: float = 0.01
    max_evaluations: int = 64
    passes: int = 8

    CHOICES: typing.ClassVar = {
        "surface_rule": (True, False, "isolated", "neighbours", "none"),
    }
    RANGES: typing.ClassVar = {
        "roughness_cells": (1e-3, 1e3),
        "position_std_nm": STD_NM,
        "max_evaluations": (0, 1_000_000),
        "passes": (1, 1000),
    }

    @property
    def surfaces(self) -> Rule:
        """The rule, by its name; `true` and `false` are older ones."""
        names: dict[bool | str, Rule] = {True: "isolated", False: "none"}
        return names.get(self.surface_rule, self.surface_rule)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class RegionsSettings(Settings):
    """Settings of a run."""

    reconstruct: ReconstructOptions = dataclasses.field(default_factory=ReconstructOptions)
