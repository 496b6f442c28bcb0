r"""Thermal diffuse scattering as absorption: what the mean wave loses to atoms that vibrate.

An atom's phase shift phi(r) moves with the atom. The mean of exp(i phi) over independent (Einstein)
vibrations is, to second order, exp(i <phi> - chi) with chi = (<phi^2> - <phi>^2) / 2: the mean
potential and an absorption that belongs to it (the integral of C. R. Hall and P. B. Hirsch, Proc.
R. Soc. A286, 158, 1965; as a form factor: D. M. Bird and Q. A. King, Acta Cryst. A46, 202, 1990).
"""

import functools

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline

from qhrtem_jax.physics.scattering.tables import scattering_factor

REACH_PER_NM = 4.0
"""Half of the radii at which the integrand is looked at lie below."""

RADII, ANGLES = 40, 24
"""Points of Gauss and Legendre; twice as many change the factors by 1e-4 of their largest."""

TABULATED = 120
"""Frequencies between which the factors are interpolated."""


def absorptive_factor(
    parametrization: str, symbol: str, q_per_nm: Float64[np.ndarray, "*shape"], b_nm2: float
) -> Float64[np.ndarray, "*shape"]:
    r"""The absorptive form factor of an atom that vibrates, without relativistic factors.

    1/2 \int f(|q'|) f(|q - q'|) (exp(-B q^2 / 4) - exp(-B (q'^2 + |q - q'|^2) / 4)) d^2q',
    dimensionless: times (gamma lambda)^2 it is the Fourier transform, in nm^2, of the absorption
    chi(r) of one atom.

    **Arguments:** `q_per_nm`, spatial frequency; `b_nm2`, B of the atom, 8 pi^2 <u^2>.

    **Raises:** `InputError` for an unknown element or parametrization.
    """
    if b_nm2 == 0.0:
        return np.zeros(np.shape(q_per_nm))
    end = float(np.max(q_per_nm, initial=1.0))
    return _tabulated(parametrization, symbol, b_nm2, end)(q_per_nm)


@functools.lru_cache(256)
def _tabulated(parametrization: str, symbol: str, b: float, end: float) -> CubicSpline:
    """Up to the frequency `end`; the same grid is made several times."""
    # dense where the factors bend: near the middle
    table = end * np.linspace(0.0, 1.0, TABULATED) ** 2
    return CubicSpline(table, _integral(parametrization, symbol, table, b))


def _integral(
    parametrization: str, symbol: str, q: Float64[np.ndarray, " n"], b: float
) -> Float64[np.ndarray, " n"]:
    """The integral over the half plane that is closer to q' = 0 than to q' = q; the other half
    holds as much."""
    node, weight = np.polynomial.legendre.leggauss(RADII)
    unit, share = 0.5 * (node + 1.0), 0.5 * weight
    node, weight = np.polynomial.legendre.leggauss(ANGLES)
    quarter, arc = 0.25 * np.pi * (node + 1.0), 0.25 * np.pi * weight
    # towards q a ray ends at the border of the half plane, away from it nowhere
    towards = 0.5 * q[:, None] / np.cos(quarter)
    rays = (
        (np.cos(quarter), towards / (towards + REACH_PER_NM)),
        (-np.cos(quarter), np.ones(towards.shape)),
    )
    total = np.zeros(q.shape)
    for cosine, end in rays:  # r = REACH t / (1 - t): infinite at 1, where no point lies
        t = end[..., None] * unit
        radius = REACH_PER_NM * t / (1.0 - t)
        step = end[..., None] * share * REACH_PER_NM / (1.0 - t) ** 2
        far2 = q[:, None, None] ** 2 + radius**2
        far2 = far2 - 2.0 * q[:, None, None] * radius * cosine[:, None]
        near = scattering_factor(parametrization, symbol, radius)
        far = scattering_factor(parametrization, symbol, np.sqrt(np.maximum(far2, 0.0)))
        mean = np.exp(-b * q[:, None, None] ** 2 / 4.0)
        lost = mean - np.exp(-b * (radius**2 + far2) / 4.0)
        total += np.einsum("qar,a->q", near * far * lost * radius * step, arc)
    return 2.0 * total  # above and below the line to q; half of the integral, two half planes
