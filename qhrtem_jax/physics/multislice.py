"""Multislice propagation of an electron wave through a stack of slices.

E. J. Kirkland, "Advanced Computing in Electron Microscopy", 2nd ed., chapter 6. Each slice first
transmits, then propagates by its thickness; the wave "behind slice n" includes that propagation.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from qhrtem_jax.physics.grid import Grid

KEPT_POINTS = 2**23
"""Points of all slices up to which derivatives keep what happened in each, about 64 bytes a
point."""


class Passage(eqx.Module):
    """A wave's way through a stack: the phases of the slices, their transmission functions, the
    wave before each, and behind all (its Fourier coefficients on the image grid)."""

    phases: Complex[Array, "stack rows cols"]
    gratings: Complex[Array, "stack rows cols"]
    waves: Complex[Array, "stack rows cols"]
    behind: Complex[Array, "image_rows image_cols"]


class Propagation(eqx.Module):
    """A plane wave through slices of equal thickness.

    Waves come out as their lowest Fourier coefficients on the image grid (rows, cols) = `kept`,
    whose unnormalised inverse FFT is the wave, vacuum amplitude 1.
    """

    w_y: Float[Array, " rows"]  # wavelength * frequency, rad
    w_x: Float[Array, " cols"]
    band_mask: Float[Array, "rows cols"]
    kept: tuple[int, int] = eqx.field(static=True)
    slice_nm: float = eqx.field(static=True)
    wavelength_nm: float = eqx.field(static=True)

    def over_a_slice(self, tilt_rad: Float[Array, " 2"]) -> Complex[Array, "rows cols"]:
        """The propagator from one slice to the next."""
        return propagator(
            self.w_x, self.w_y, self.band_mask, self.slice_nm, self.wavelength_nm, tilt_rad
        )

    def behind_slices(
        self,
        phases: Complex[Array, "unique rows cols"],
        sequence: Int[Array, " slices"],
        tilt_rad: Float[Array, " 2"],
    ) -> Complex[Array, "slices image_rows image_cols"]:
        """The wave behind every slice; `sequence` says which of the phases each slice uses."""
        gratings = transmission(phases, self.band_mask)
        return waves_behind_slices(gratings, sequence, self.over_a_slice(tilt_rad), self.kept)

    def through(
        self, phases: Complex[Array, "stack rows cols"], tilt_rad: Float[Array, " 2"]
    ) -> Complex[Array, "image_rows image_cols"]:
        """The wave behind slices of the given phases, each crossed once."""
        propagate = self.over_a_slice(tilt_rad)

        def step(wave: Array, phase: Array) -> tuple[Array, None]:
            grating = transmission(phase, self.band_mask)
            return jnp.fft.ifft2(jnp.fft.fft2(wave * grating) * propagate), None

        if phases.size > KEPT_POINTS:  # a reverse pass computes what happens in a slice again
            step = jax.checkpoint(step)
        wave, _ = jax.lax.scan(step, jnp.ones(phases.shape[1:], propagate.dtype), phases)
        return self._behind(wave)

    def passage(
        self, phases: Complex[Array, "stack rows cols"], tilt_rad: Float[Array, " 2"]
    ) -> Passage:
        """What `through` meets on its way."""
        propagate = self.over_a_slice(tilt_rad)

        def step(wave: Array, phase: Array) -> tuple[Array, tuple[Array, Array]]:
            grating = transmission(phase, self.band_mask)
            return jnp.fft.ifft2(jnp.fft.fft2(wave * grating) * propagate), (grating, wave)

        start = jnp.ones(phases.shape[1:], propagate.dtype)
        end, (gratings, waves) = jax.lax.scan(step, start, phases)
        return Passage(phases, gratings, waves, self._behind(end))

    def _behind(self, wave: Complex[Array, "rows cols"]) -> Array:
        return lowest_frequencies(jnp.fft.fft2(wave, norm="forward"), self.kept)

    def through_changed(
        self,
        passage: Passage,
        changed: Bool[Array, " stack"],
        change: Callable[[Int[Array, ""]], Complex[Array, "rows cols"]],
        tilt_rad: Float[Array, " 2"],
    ) -> Complex[Array, "image_rows image_cols"]:
        """`through` slices of which some are `changed`, from the first of them on; `change`: what
        is added to the phases of a slice. Not differentiable in reverse."""
        propagate, stack = self.over_a_slice(tilt_rad), len(passage.phases)

        def step(k: Array, wave: Array) -> Array:
            grating = jax.lax.cond(
                changed[k],
                lambda: transmission(passage.phases[k] + change(k), self.band_mask),
                lambda: passage.gratings[k],
            )
            return jnp.fft.ifft2(jnp.fft.fft2(wave * grating) * propagate)

        first = jnp.where(jnp.any(changed), jnp.argmax(changed), stack - 1)
        return self._behind(jax.lax.fori_loop(first, stack, step, passage.waves[first]))

    def varied(
        self,
        passage: Passage,
        changed: Bool[Array, " stack"],
        change: Callable[[Int[Array, ""]], Complex[Array, "rows cols"]],
        tilt_rad: Float[Array, " 2"],
        tilt_change: Float[Array, " 2"],
    ) -> Complex[Array, "image_rows image_cols"]:
        """The derivative of `through` along a `change` of the phases of slices, those that are
        `changed`, and of the tilt; from the first that matters on. Not differentiable in
        reverse."""
        along = (tilt_rad,), (tilt_change,)
        (propagate, turned), stack = jax.jvp(self.over_a_slice, *along), len(passage.phases)
        tilted = jnp.any(tilt_change != 0.0)

        def step(k: Array, moved: Array) -> Array:
            def made() -> Array:
                slope = 1j * jnp.exp(1j * passage.phases[k]) * change(k)
                return passage.waves[k] * jnp.fft.ifft2(jnp.fft.fft2(slope) * self.band_mask)

            moved = moved * passage.gratings[k]
            moved = jnp.fft.fft2(moved + jax.lax.cond(changed[k], made, lambda: 0.0 * moved))

            def with_tilt() -> Array:
                return jnp.fft.fft2(passage.waves[k] * passage.gratings[k]) * turned

            tilting = jax.lax.cond(tilted, with_tilt, lambda: 0.0 * moved)
            return jnp.fft.ifft2(moved * propagate + tilting)

        first = jnp.where(jnp.any(changed), jnp.argmax(changed), stack)
        first = jnp.where(tilted, 0, first)
        still = jnp.zeros_like(passage.waves[0])
        return self._behind(jax.lax.fori_loop(first, stack, step, still))


def make_propagation(
    grid: Grid,
    kept: tuple[int, int],
    slice_nm: float,
    wavelength_nm: float,
    dtype: jnp.dtype,
) -> Propagation:
    """Propagation on `grid`, band-limited as the grid says."""
    q_y, q_x = grid.axes()
    mask = np.hypot(*grid.frequencies()) <= grid.band_limit
    return Propagation(
        w_y=jnp.asarray(q_y * wavelength_nm, dtype),
        w_x=jnp.asarray(q_x * wavelength_nm, dtype),
        band_mask=jnp.asarray(mask, dtype),
        kept=kept,
        slice_nm=slice_nm,
        wavelength_nm=wavelength_nm,
    )


def transmission(
    phase: Complex[Array, "*unique rows cols"], band_mask: Float[Array, "rows cols"]
) -> Complex[Array, "*unique rows cols"]:
    """Band-limited transmission functions exp(i phase).

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
) -> Complex[Array, "rows cols"]:
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
