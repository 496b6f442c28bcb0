"""Multislice propagation of an electron wave through a stack of slices.

E. J. Kirkland, "Advanced Computing in Electron Microscopy", 2nd ed., chapter 6. Each slice first
transmits, then propagates by its thickness; the wave "behind slice n" includes that propagation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int


def transmission(
    phase: Complex[Array, "*unique rows cols"], band_mask: Float[Array, "rows cols"]
) -> Array:
    """Band-limited transmission functions exp(i phase), complex, same shape.

    With an absorption factor a, phase = sigma V dz (1 + i a): the imaginary fraction of the
    potential attenuates (Hashimoto, Howie, Whelan, Proc. R. Soc. A269, 80, 1962).
    """
    return jnp.fft.ifft2(jnp.fft.fft2(jnp.exp(1j * phase)) * band_mask)


def propagator(
    w_x: Float[Array, " cols"],
    w_y: Float[Array, " rows"],
    band_mask: Float[Array, "rows cols"],
    distance_nm: float,
    wavelength_nm: float,
    tilt_rad: Float[Array, " 2"],
) -> Array:
    """Fresnel propagator over `distance_nm` through a specimen tilted by `tilt_rad` = (x, y).

    exp(-i pi dz/lambda cos|t| (|w|^2 - 2 w.t)), w = lambda q, inside the band limit and 0 outside:
    a positive tilt moves the wave by -t dz per slice relative to the slices. It separates into a
    column and a row factor.
    """
    scale = jnp.pi * distance_nm / wavelength_nm * jnp.cos(_norm(tilt_rad))
    along_x = jnp.exp(-1j * scale * (w_x**2 - 2.0 * w_x * tilt_rad[0]))
    along_y = jnp.exp(-1j * scale * (w_y**2 - 2.0 * w_y * tilt_rad[1]))
    return along_y[:, None] * along_x * band_mask


def _norm(tilt_rad: Float[Array, " 2"]) -> Float[Array, ""]:
    # The square root has no derivative at zero tilt; cos(|t|) is even, so a series in |t|^2 would
    # do as well, but this keeps the definition readable.
    square = jnp.sum(tilt_rad**2)
    safe = jnp.where(square > 0.0, square, 1.0)
    return jnp.where(square > 0.0, jnp.sqrt(safe), 0.0)


def waves_behind_slices(
    transmissions: Complex[Array, "unique rows cols"],
    sequence: Int[Array, " slices"],
    propagate: Complex[Array, "rows cols"],
    kept: tuple[int, int],
) -> Complex[Array, "slices kept_rows kept_cols"]:
    """Fourier coefficients of the wave behind every slice, for a plane wave of amplitude 1.

    **Arguments:** `sequence`, the transmission function that each slice uses; `kept` = (rows,
    cols), how many of the lowest frequencies of each wave to keep.

    **Returns:** coefficients whose unnormalised inverse FFT is the wave, vacuum amplitude 1.
    """
    shape = transmissions.shape[-2:]
    points = shape[0] * shape[1]

    def step(wave: Array, index: Array) -> tuple[Array, Array]:
        spectrum = jnp.fft.fft2(wave * transmissions[index]) * propagate
        return jnp.fft.ifft2(spectrum), lowest_frequencies(spectrum, kept) / points

    start = jnp.ones(shape, dtype=transmissions.dtype)
    _, waves = jax.lax.scan(step, start, sequence)
    return waves


def lowest_frequencies(
    spectrum: Complex[Array, "*batch rows cols"], kept: tuple[int, int]
) -> Complex[Array, "*batch kept_rows kept_cols"]:
    """The lowest frequencies of an FFT-ordered spectrum, in the FFT order of the smaller grid."""
    for axis, count in zip((-2, -1), kept, strict=True):
        if count == spectrum.shape[axis]:
            continue
        positive = (count + 1) // 2
        size = spectrum.shape[axis]
        low = jax.lax.slice_in_dim(spectrum, 0, positive, axis=axis)
        high = jax.lax.slice_in_dim(spectrum, size - (count - positive), size, axis=axis)
        spectrum = jnp.concatenate([low, high], axis=axis)
    return spectrum
