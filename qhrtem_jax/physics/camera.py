"""Camera: modulation transfer, pixel integration, image spread, and the output frame."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.parameters import Formation

STRETCH_STEP = 0.02
"""Relative change of the MTF's frequencies over which its slope is taken, about what their
calibration leaves open; a table of straight pieces has no better derivative."""


@dataclasses.dataclass(frozen=True)
class Mtf:
    """Modulation transfer function of a camera.

    `values`: entry 0 belongs to frequency 0, the last one to the Nyquist frequency of the camera,
    equispaced between; beyond it the last value holds. A frequency q of the image is looked up at
    `scale * q / q_Nyquist`: the scale accounts for a calibration at another sampling.
    """

    values: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        table = np.asarray(self.values, dtype=float)
        if table.size < 2 or not np.all(np.isfinite(table)) or np.any(table < 0.0):
            raise InputError(
                f"MTF: found {table.size} values, expected at least 2, finite, not negative"
            )
        if not (np.isfinite(self.scale) and self.scale > 0.0):
            raise InputError(f"scale of the MTF: found {self.scale}, expected a positive number")

    def at(self, nyquist_fraction: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """MTF at frequencies given as fractions of the Nyquist frequency."""
        table = np.asarray(self.values)
        position = np.linspace(0.0, 1.0, table.size)
        return np.interp(self.scale * nyquist_fraction, position, table)


@dataclasses.dataclass(frozen=True)
class Frame:
    """Output pixels: pixel (row, col) is centred at origin + (row, col) * sampling, nm, (y, x)."""

    shape: tuple[int, int]
    sampling_nm: tuple[float, float]
    origin_nm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(f"frame: found shape {self.shape}, expected at least one pixel a side")
        if not all(np.isfinite(s) and s > 0.0 for s in self.sampling_nm):
            raise InputError(f"sampling: found {self.sampling_nm}, expected positive nm per pixel")

    def positions(self) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " cols"]]:
        """(y of the rows, x of the columns) in nm."""
        y, x = (
            o + s * np.arange(n)
            for o, s, n in zip(self.origin_nm, self.sampling_nm, self.shape, strict=True)
        )
        return y, x


class Camera(eqx.Module):
    """Turns the spectrum of a periodic cell's intensity into the pixels of a frame.

    A spectrum is `rfft2(intensity) / points`, (rows, cols // 2 + 1). In the physical mode the
    transfer acts on the cell's own frequencies and the frame is evaluated exactly at the pixel
    centres. With `frame_transfer` (compatibility=drprobe) the unfiltered intensity is evaluated on
    the frame first, and the transfer acts on the frame as if it were periodic.
    """

    transfer: Float[Array, "trows tcols"]  # MTF x pixel integration, on cell or frame frequencies
    slopes: Float[Array, "2 trows tcols"]  # of it by stretches of the MTF's frequencies along y, x
    spread_exponent: Float[Array, "trows tcols"]  # 2 pi^2 q^2, 1/nm^2
    q_y: Float[Array, "trows 1"]  # frequencies of the transfer, 1/nm
    q_x: Float[Array, " tcols"]
    to_rows_real: Float[Array, "pixel_rows rows"]
    to_rows_imag: Float[Array, "pixel_rows rows"]
    to_cols_real: Float[Array, "half_cols pixel_cols"]
    to_cols_imag: Float[Array, "half_cols pixel_cols"]
    frame_transfer: bool = eqx.field(static=True)

    @property
    def pixels(self) -> tuple[int, int]:
        """(rows, cols) of the frame."""
        return self.to_rows_real.shape[0], self.to_cols_real.shape[1]

    def __call__(
        self, spectrum: Complex[Array, "rows half_cols"], formation: Formation
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """Pixels of one image; vacuum 1."""
        pixels = self.linear(spectrum, formation)
        return jnp.abs(pixels) if self.frame_transfer else pixels  # wavimg stores |value|

    def linear(
        self, spectrum: Complex[Array, "rows half_cols"], formation: Formation
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """The part of the camera that is linear in the spectrum."""
        blur = self.damping(formation)
        if self.frame_transfer:
            pixels = self._evaluate(spectrum)
            return jnp.fft.irfft2(jnp.fft.rfft2(pixels) * blur, s=pixels.shape)
        return self._evaluate(spectrum * blur)

    def damping(self, formation: Formation) -> Float[Array, "trows tcols"]:
        """What the camera, and an image that spreads and drifts, leave of each frequency.

        A steady drift averages the image along its way d: sinc(q.d) (J. Frank, Optik 30, 171,
        1969).
        """
        transfer = self.transfer
        if formation.mtf_stretch is not None:
            transfer = transfer + jnp.tensordot(formation.mtf_stretch, self.slopes, axes=1)
        d_x, d_y = formation.drift_nm
        drift = jnp.sinc(self.q_x * d_x + self.q_y * d_y)
        return transfer * jnp.exp(-self.spread_exponent * formation.image_spread_nm**2) * drift

    def _evaluate(self, spectrum: Array) -> Array:
        """Fourier sum at the pixel centres, as four real matrix products a side."""
        real, imag = spectrum.real, spectrum.imag
        rows_real = self.to_rows_real @ real - self.to_rows_imag @ imag
        rows_imag = self.to_rows_real @ imag + self.to_rows_imag @ real
        return rows_real @ self.to_cols_real - rows_imag @ self.to_cols_imag


def make_camera(
    size_nm: tuple[float, float],
    shape: tuple[int, int],
    frame: Frame,
    mtf: Mtf | None,
    pixel_integration: bool,
    dtype: jnp.dtype,
    frame_transfer: bool = False,
) -> Camera:
    """Camera for a cell of `size_nm` = (y, x) whose image grid has `shape` = (rows, cols)."""
    q_y = np.fft.fftfreq(shape[0], size_nm[0] / shape[0])
    q_x = np.fft.rfftfreq(shape[1], size_nm[1] / shape[1])
    y, x = frame.positions()
    to_rows = np.exp(2j * np.pi * y[:, None] * q_y)
    # Negative q_x are the conjugates of the positive ones: count these twice.
    twice = np.where((q_x == 0.0) | (np.arange(q_x.size) * 2 == shape[1]), 1.0, 2.0)
    to_cols = twice[:, None] * np.exp(2j * np.pi * q_x[:, None] * x)
    if frame_transfer:
        fraction, (q_y, q_x) = _drprobe_frame_frequencies(frame)
    else:
        fraction_y, fraction_x = np.meshgrid(
            2.0 * q_y * frame.sampling_nm[0], 2.0 * q_x * frame.sampling_nm[1], indexing="ij"
        )
        fraction = (fraction_y, fraction_x)
    transfer, slopes = np.ones(fraction[0].shape), np.zeros((2, *fraction[0].shape))
    if mtf is not None:
        transfer = mtf.at(np.hypot(*fraction))
        for axis in (0, 1):
            more, less = (
                mtf.at(np.hypot(fraction[axis] * (1.0 + step), fraction[1 - axis]))
                for step in (STRETCH_STEP, -STRETCH_STEP)
            )
            slopes[axis] = (more - less) / (2.0 * STRETCH_STEP)
    if pixel_integration:
        pixel = np.sinc(fraction[0] / 2.0) * np.sinc(fraction[1] / 2.0)
        transfer, slopes = transfer * pixel, slopes * pixel
    return Camera(
        transfer=jnp.asarray(transfer, dtype),
        slopes=jnp.asarray(slopes, dtype),
        spread_exponent=jnp.asarray(2.0 * np.pi**2 * (q_y[:, None] ** 2 + q_x**2), dtype),
        q_y=jnp.asarray(q_y[:, None], dtype),
        q_x=jnp.asarray(q_x, dtype),
        to_rows_real=jnp.asarray(np.real(to_rows), dtype),
        to_rows_imag=jnp.asarray(np.imag(to_rows), dtype),
        to_cols_real=jnp.asarray(np.real(to_cols), dtype),
        to_cols_imag=jnp.asarray(np.imag(to_cols), dtype),
        frame_transfer=frame_transfer,
    )


def _drprobe_frame_frequencies(
    frame: Frame,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Nyquist fractions with wavimg's integer half sizes, and the frequencies (q_y, q_x)."""
    index_y = np.fft.fftfreq(frame.shape[0], 1.0 / frame.shape[0])
    index_x = np.fft.rfftfreq(frame.shape[1], 1.0 / frame.shape[1])
    fraction = np.meshgrid(
        index_y / (frame.shape[0] // 2), index_x / (frame.shape[1] // 2), indexing="ij"
    )
    q_y = index_y / (frame.shape[0] * frame.sampling_nm[0])
    q_x = index_x / (frame.shape[1] * frame.sampling_nm[1])
    return (fraction[0], fraction[1]), (q_y, q_x)
