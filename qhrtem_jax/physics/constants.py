"""Electron optics constants (CODATA 2018).

The interaction constant never appears on its own: for a projected potential that is built from
electron scattering factors, the phase of a slice in Fourier space is
`gamma * wavelength * sum_j f_j(q) exp(-2 pi i q.r_j) / cell area` (Kirkland, "Advanced Computing in
Electron Microscopy", 2nd ed., eq. 5.18 and 5.21), because sigma = 2 pi m e lambda / h^2 cancels
the h^2 / (2 pi m0 e) of the Mott-Bethe potential up to gamma.
"""

import math

from qhrtem_jax.errors import InputError

ELECTRON_REST_ENERGY_KEV = 510.99895
"""m0 c^2 in keV."""

PLANCK_TIMES_LIGHT_SPEED_KEV_NM = 1.239841984
"""h c in keV nm."""


def electron_wavelength_nm(high_tension_kv: float) -> float:
    """Relativistic de Broglie wavelength in nm; 1.96875 pm at 300 kV."""
    _require_positive(high_tension_kv)
    energy = high_tension_kv
    return PLANCK_TIMES_LIGHT_SPEED_KEV_NM / math.sqrt(
        energy * (2.0 * ELECTRON_REST_ENERGY_KEV + energy)
    )


def relativistic_gamma(high_tension_kv: float) -> float:
    """Mass ratio gamma = 1 + eU / (m0 c^2)."""
    _require_positive(high_tension_kv)
    return 1.0 + high_tension_kv / ELECTRON_REST_ENERGY_KEV


def _require_positive(high_tension_kv: float) -> None:
    if not (math.isfinite(high_tension_kv) and high_tension_kv > 0.0):
        raise InputError(f"high tension: found {high_tension_kv}, expected a positive number of kV")
