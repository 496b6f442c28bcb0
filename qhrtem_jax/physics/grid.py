"""Sampling of a periodic cell in real and Fourier space.

Arrays are indexed [row, column] = [y, x]; x runs along image columns. Frequencies follow the FFT
order of `numpy.fft.fftfreq`, in 1/nm, with the forward kernel exp(-2 pi i q.r).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64

from qhrtem_jax.errors import InputError

BAND_LIMIT_FRACTION = 2.0 / 3.0
"""Waves and transmission functions are kept inside this fraction of the smaller Nyquist frequency,
so that their products do not alias back into the band (Kirkland, section 6.8)."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A rectangular periodic cell of `size_nm` = (y, x) sampled by `shape` = (rows, columns)."""

    shape: tuple[int, int]
    size_nm: tuple[float, float]

    def __post_init__(self) -> None:
        if min(self.shape) < 2:
            raise InputError(f"grid: found shape {self.shape}, expected at least 2 points a side")
        if not all(np.isfinite(s) and s > 0 for s in self.size_nm):
            raise InputError(f"grid: found cell {self.size_nm} nm, expected positive lengths")

    @property
    def nyquist(self) -> float:
        """Smaller of the two Nyquist frequencies, in 1/nm."""
        return min(n / (2.0 * s) for n, s in zip(self.shape, self.size_nm, strict=True))

    @property
    def band_limit(self) -> float:
        """Radius of the circular band limit, in 1/nm."""
        # The tolerance keeps beams that lie on the limit, whatever the rounding.
        return BAND_LIMIT_FRACTION * self.nyquist * (1.0 + 1e-9)

    def axes(self) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " cols"]]:
        """Frequencies (q_y, q_x) in 1/nm."""
        (rows, cols), (height, width) = self.shape, self.size_nm
        return np.fft.fftfreq(rows, height / rows), np.fft.fftfreq(cols, width / cols)

    def frequencies(self) -> tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "rows cols"]]:
        """(q_y, q_x), each of the full shape, in 1/nm."""
        q_y, q_x = self.axes()
        return tuple(np.meshgrid(q_y, q_x, indexing="ij"))  # type: ignore[return-value]


def kept_frequencies(count: int, kept: int) -> Int64[np.ndarray, " kept"]:
    """Positions, in an FFT-ordered axis of `count` points, of its lowest `kept` frequencies.

    The result is in the FFT order of an axis of `kept` points.
    """
    if kept > count:
        raise ValueError(f"cannot keep {kept} of {count} frequencies")
    positive = (kept + 1) // 2
    negative = kept - positive
    return np.concatenate([np.arange(positive), np.arange(count - negative, count)])


def smooth_size(minimum: float) -> int:
    """Smallest even integer >= minimum whose prime factors are 2, 3 and 5 (fast FFTs)."""
    size = max(4, int(np.ceil(minimum / 2.0)) * 2)
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
