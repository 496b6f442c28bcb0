"""What is known of the instrument."""

import dataclasses

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics import coherence
from qhrtem_jax.physics.camera import Mtf
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.constants import electron_wavelength_nm
from qhrtem_jax.physics.specimen import PotentialModel

COMPATIBILITIES = ("none", "drprobe")


@dataclasses.dataclass(frozen=True)
class Microscope:
    """What is known of the instrument, and how its coherence is treated."""

    high_tension_kv: float = 300.0
    aberration_convention: str = "haider"
    coherence: str = "focal_sum"
    compatibility: str = "none"
    source: SourceSampling = dataclasses.field(default_factory=SourceSampling)
    mtf: Mtf | None = None
    pixel_integration: bool = True

    def __post_init__(self) -> None:
        electron_wavelength_nm(self.high_tension_kv)
        if self.coherence not in coherence.MODES:
            raise InputError(
                f"coherence: found {self.coherence!r}, expected one of {', '.join(coherence.MODES)}"
            )
        if self.compatibility not in COMPATIBILITIES:
            raise InputError(
                f"compatibility: found {self.compatibility!r}, "
                f"expected one of {', '.join(COMPATIBILITIES)}"
            )

    @property
    def drprobe(self) -> bool:
        return self.compatibility == "drprobe"

    def potential_model(self, scattering: str, thermal_absorption: bool = False) -> PotentialModel:
        """Scattering of atoms in this instrument; `compatibility=drprobe` adds celslc's edges."""
        if self.drprobe and scattering == "weickenmeier_kohl":
            scattering = "weickenmeier_kohl_drprobe"
        return PotentialModel(
            scattering, self.high_tension_kv, self.drprobe, thermal_absorption=thermal_absorption
        )
