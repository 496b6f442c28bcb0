"""Electron scattering factors of neutral atoms, from published tables."""

from qhrtem_jax.physics.scattering.tables import (
    PARAMETRIZATIONS as PARAMETRIZATIONS,
)
from qhrtem_jax.physics.scattering.tables import (
    atomic_number as atomic_number,
)
from qhrtem_jax.physics.scattering.tables import (
    scattering_factor as scattering_factor,
)
from qhrtem_jax.physics.scattering.thermal import (
    absorptive_factor as absorptive_factor,
)
