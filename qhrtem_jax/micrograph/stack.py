"""Frames of one place, brought together.

The specimen drifts from frame to frame. Each frame is correlated with the mean of those before it,
to whole pixels by fast transforms, then to a hundredth by the transform evaluated around the peak
alone (M. Guizar-Sicairos et al., Optics Letters 33 (2008) 156).
"""

import numpy as np
from jaxtyping import Float, Shaped
from scipy.ndimage import shift as moved

from qhrtem_jax.micrograph.cells import SPLINE
from qhrtem_jax.micrograph.counts import bad_pixels, without_bad

FINE, WITHIN = 100, 1.5
"""Steps of a pixel, and pixels around the peak that are looked at so finely."""

FARTHEST = 0.25
"""Of the image's sides: frames do not drift further from one to the next."""

ROUNDS = 3
"""The window of the correlation pulls towards no shift, less and less as frames come to lie on each
other."""

MARGIN = 3
"""Pixels at the edges of a frame that a spline knows less well."""


def registered_mean(
    frames: Shaped[np.ndarray, "frames rows cols"],
) -> tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "frames 2"]]:
    """(mean of all frames, moved to lie on the first; by how many pixels, (x, y), each is shifted
    against the first). Bad pixels of a frame do not count; what no frame shows is taken from beside
    it."""
    shape = frames.shape[1:]
    total, weight = np.zeros(shape), np.zeros(shape)
    drifts = np.zeros((len(frames), 2))
    before = np.zeros(2)
    for k, frame in enumerate(frames):
        bad = bad_pixels(frame.astype(float))
        image = without_bad(frame.astype(float), bad)
        here = (~bad).astype(float)
        if k > 0:
            reference = total / np.maximum(weight, 1e-9)
            for _ in range(ROUNDS):
                lying = moved(image, -before, order=SPLINE, mode="nearest")
                before = before + _shift(lying, reference)
            image = moved(image, -before, order=SPLINE, mode="nearest")
            blind = moved(bad.astype(float), -before, order=1, mode="nearest") > 1e-6
            here = _seen(shape, before) * ~blind
        drifts[k] = before[::-1]
        total += here * image
        weight += here
    return without_bad(total / np.maximum(weight, 1e-9), weight == 0.0), drifts


def _seen(shape: tuple[int, ...], by: np.ndarray) -> Float[np.ndarray, "rows cols"]:
    """1 where a frame that is shifted by (rows, cols) shows something when it is moved back."""
    inside = []
    for n, step in zip(shape, by, strict=True):
        place = np.arange(n) + step
        inside.append((place >= MARGIN) & (place <= n - 1 - MARGIN))
    return np.outer(*inside).astype(float)


def _shift(image: np.ndarray, reference: np.ndarray) -> Float[np.ndarray, " 2"]:
    """By how many (rows, cols) the image is shifted against the reference."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    one, other = (np.fft.fft2(window * (a - a.mean())) for a in (image, reference))
    product = one * np.conj(other)
    correlation = np.fft.ifft2(product).real
    rows, cols = (np.fft.fftfreq(n, 1.0 / n) for n in image.shape)
    far = (np.abs(rows) > FARTHEST * len(rows))[:, None] | (np.abs(cols) > FARTHEST * len(cols))
    peak = np.unravel_index(np.argmax(np.where(far, -np.inf, correlation)), image.shape)
    around = np.arange(-WITHIN, WITHIN + 0.5 / FINE, 1.0 / FINE)
    down, along = rows[peak[0]] + around, cols[peak[1]] + around
    left = np.exp(2j * np.pi * np.outer(down, np.fft.fftfreq(len(rows))))
    right = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(len(cols)), along))
    fine = (left @ product @ right).real
    row, col = np.unravel_index(np.argmax(fine), fine.shape)
    return np.array([down[row], along[col]])
