"""Partially coherent image formation: from an exit wave to the intensity before the camera.

Focus spread fs and semi-convergence sc are 1/e half-widths, f(Z) ~ exp(-Z^2/fs^2) and
s(b) ~ exp(-|b|^2/sc^2). Modes:

- `focal_sum` (default): incoherent sum over equispaced foci, spatial coherence as the envelope
  exp(-(sc/2)^2 |grad chi(w) - grad chi(0)|^2) on the wave (Dr. Probe's mode 1);
- `explicit`: incoherent sum over foci and illumination angles b with chi(w + b), the reference
  (Dr. Probe's mode 2), about a hundred times slower;
- `quasi_coherent`: both envelopes on the wave, one FFT (Dr. Probe's mode 6). It loses the intensity
  that interference between scattered beams carries: up to 0.1 rms off, so it is for quick looks and
  not for quantification.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from qhrtem_jax.physics.aberrations import (
    ABERRATION_NAMES,
    aberration_basis,
    aberration_gradient_basis,
)
from qhrtem_jax.physics.parameters import Formation

MODES = ("focal_sum", "explicit", "quasi_coherent")


@dataclasses.dataclass(frozen=True)
class SourceSampling:
    """How the focus distribution and, in `explicit`, the illumination cone are sampled.

    `foci` equispaced foci from -extent to +extent focus spreads; a Gaussian on an equispaced grid
    converges exponentially. `angles` x `angles` illumination tilts within `extent` half-widths.
    With `drprobe` the foci follow wavimg: +-2 focus spreads, their number from the information
    limit (conventions of `compatibility=drprobe`).
    """

    foci: int = 15
    focal_extent: float = 2.4
    angles: int = 13
    angular_extent: float = 2.7
    drprobe: bool = False


_DRPROBE_MAX_HALF_COUNT = 9  # N = 1 + int(2 fs / dZ) never exceeds this, see `_drprobe_foci`
DRPROBE_SOURCE = SourceSampling(
    foci=2 * _DRPROBE_MAX_HALF_COUNT + 1,
    focal_extent=2.0,
    angles=11,
    angular_extent=2.0,
    drprobe=True,
)


class Optics(eqx.Module):
    """Aberration polynomials on the frequencies of the image grid, for one wavelength."""

    w_x: Float[Array, "rows cols"]  # rad
    w_y: Float[Array, "rows cols"]
    basis: Float[Array, "components rows cols"]  # W at unit coefficient
    gradient: Float[Array, "2 components rows cols"]  # grad W, less its value at w = 0
    wavelength_nm: float = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the image grid."""
        return self.w_x.shape[0], self.w_x.shape[1]

    def chi(self, aberrations_nm: Float[Array, " components"]) -> Float[Array, "rows cols"]:
        """Phase chi = 2 pi W / lambda in rad."""
        wave_aberration = jnp.tensordot(aberrations_nm, self.basis, axes=1)
        return (2.0 * jnp.pi / self.wavelength_nm) * wave_aberration

    def spatial_envelope(
        self, aberrations_nm: Float[Array, " components"], semi_convergence_rad: Float[Array, ""]
    ) -> Float[Array, "rows cols"]:
        """exp(-(sc/2)^2 |grad chi(w) - grad chi(0)|^2)."""
        slope = jnp.tensordot(self.gradient, aberrations_nm, axes=((1,), (0,)))
        square = (2.0 * jnp.pi / self.wavelength_nm) ** 2 * jnp.sum(slope**2, axis=0)
        return jnp.exp(-0.25 * semi_convergence_rad**2 * square)


def make_optics(
    q_y: Float[np.ndarray, " rows"],
    q_x: Float[np.ndarray, " cols"],
    wavelength_nm: float,
    dtype: jnp.dtype,
) -> Optics:
    """Tabulate the polynomials on the frequencies `q_y` and `q_x`, 1/nm."""
    w_y, w_x = np.meshgrid(q_y * wavelength_nm, q_x * wavelength_nm, indexing="ij")
    gradient = aberration_gradient_basis(w_x, w_y)
    # grad chi(0) comes from the image shift A0 alone, and only the difference to it damps.
    shift = [k for k, name in enumerate(ABERRATION_NAMES) if name.startswith("A0")]
    gradient[:, shift] = 0.0
    return Optics(
        w_x=jnp.asarray(w_x, dtype),
        w_y=jnp.asarray(w_y, dtype),
        basis=jnp.asarray(aberration_basis(w_x, w_y), dtype),
        gradient=jnp.asarray(gradient, dtype),
        wavelength_nm=wavelength_nm,
    )


def intensity(
    optics: Optics,
    wave: Complex[Array, "*batch rows cols"],
    formation: Formation,
    mode: str,
    source: SourceSampling,
) -> Float[Array, "*batch rows cols"]:
    """Intensity on the image grid, vacuum 1, of waves that share one set of formation.

    `wave` holds Fourier coefficients whose unnormalised inverse FFT is the wave.
    """
    if mode == "focal_sum":
        no_tilt = jnp.zeros(2, optics.w_x.dtype)
        return _focal_sum(optics, wave, _plate(optics, formation), no_tilt, formation, source)
    if mode == "explicit":
        return _explicit(optics, wave, formation, source)
    if mode == "quasi_coherent":
        return _quasi_coherent(optics, wave, formation)
    raise ValueError(f"unknown coherence mode {mode!r}, expected one of {MODES}")


def _plate(optics: Optics, formation: Formation) -> Array:
    """exp(-i chi) times the spatial envelope."""
    chi = optics.chi(formation.aberrations_nm)
    envelope = optics.spatial_envelope(formation.aberrations_nm, formation.semi_convergence_rad)
    return envelope * jnp.exp(-1j * chi)


def _modulus_square(wave: Array) -> Array:
    real_space = jnp.fft.ifft2(wave, norm="forward")
    return real_space.real**2 + real_space.imag**2


def _foci(
    formation: Formation, source: SourceSampling, wavelength_nm: float
) -> tuple[Array, Array, Array]:
    """(first focus, step, weights (foci,)), in nm; the weights sum to 1."""
    spread = formation.focus_spread_nm
    half = (source.foci - 1) // 2
    order = jnp.arange(-half, half + 1, dtype=spread.dtype)
    if source.drprobe:
        count = _drprobe_half_count(spread, formation.image_spread_nm, wavelength_nm)
        weights = jnp.where(
            jnp.abs(order) <= count, jnp.exp(-((source.focal_extent * order / count) ** 2)), 0.0
        )
        step = source.focal_extent * spread / count
    else:
        weights = jnp.exp(-((source.focal_extent * order / half) ** 2))
        step = source.focal_extent * spread / half
    return -half * step, step, weights / jnp.sum(weights)


def _drprobe_half_count(spread: Array, image_spread: Array, wavelength_nm: float) -> Array:
    """wavimg's N: dZ = 2 / (lambda (3 g_info)^2), N = 1 + int(2 fs / dZ)."""
    tiny = 1e-6  # a spread of zero has no information limit
    temporal = ((jnp.pi * wavelength_nm * jnp.maximum(spread, tiny)) ** 2 / 8.0) ** -0.25
    limit = 3.0 * jnp.minimum(temporal, 1.0 / (jnp.pi * jnp.maximum(image_spread, tiny)))
    count = 1.0 + jnp.floor(spread * wavelength_nm * limit**2)
    return jax.lax.stop_gradient(jnp.minimum(count, _DRPROBE_MAX_HALF_COUNT))


def _focal_sum(
    optics: Optics,
    wave: Array,
    plate: Array,
    tilt_rad: Array,
    formation: Formation,
    source: SourceSampling,
) -> Array:
    """Sum over foci; the defocus phase is that of a beam tilted by `tilt_rad`."""
    first, step, weights = _foci(formation, source, optics.wavelength_nm)
    square = (optics.w_x + tilt_rad[0]) ** 2 + (optics.w_y + tilt_rad[1]) ** 2
    defocus_phase = (jnp.pi / optics.wavelength_nm) * square
    # Equispaced foci: each plate is the one before times a constant, no new exponentials.
    advance = jnp.exp(-1j * step * defocus_phase)

    def add(carry: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], None]:
        total, current = carry
        return (total + weight * _modulus_square(wave * current), current * advance), None

    start = (jnp.zeros(wave.shape, optics.w_x.dtype), plate * jnp.exp(-1j * first * defocus_phase))
    (total, _), _ = jax.lax.scan(add, start, weights)
    return total


def _explicit(optics: Optics, wave: Array, formation: Formation, source: SourceSampling) -> Array:
    axis = np.linspace(-source.angular_extent, source.angular_extent, source.angles)
    b_y, b_x = np.meshgrid(axis, axis, indexing="ij")
    inside = np.hypot(b_x, b_y) <= source.angular_extent * (1.0 + 1e-9)
    weight = np.exp(-(b_x**2 + b_y**2))[inside]
    dtype = optics.w_x.dtype
    tilts = jnp.asarray(np.stack([b_x[inside], b_y[inside]], axis=1), dtype)
    weights = jnp.asarray(weight / weight.sum(), dtype)

    def add(total: Array, angle: tuple[Array, Array]) -> tuple[Array, None]:
        tilt, share = angle
        shift = formation.semi_convergence_rad * tilt
        basis = aberration_basis(optics.w_x + shift[0], optics.w_y + shift[1])
        chi = (2.0 * jnp.pi / optics.wavelength_nm) * jnp.tensordot(
            formation.aberrations_nm, basis, axes=1
        )
        image = _focal_sum(optics, wave, jnp.exp(-1j * chi), shift, formation, source)
        return total + share * image, None

    total, _ = jax.lax.scan(add, jnp.zeros(wave.shape, dtype), (tilts, weights))
    return total


def _quasi_coherent(optics: Optics, wave: Array, formation: Formation) -> Array:
    w2 = optics.w_x**2 + optics.w_y**2
    exponent = jnp.pi * formation.focus_spread_nm / (2.0 * optics.wavelength_nm) * w2
    return _modulus_square(wave * _plate(optics, formation) * jnp.exp(-(exponent**2)))
