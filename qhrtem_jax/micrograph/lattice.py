"""The lattice of a crystal in an image: found in its spectrum, then followed over the image.

Reflections of the projected crystal say where the spectrum has its peaks, up to rotation and scale;
the phases of an image's reflections, over all cells at once, say both precisely (geometric phase
analysis; Hytch, Snoeck, Kilaas, Ultramicroscopy 74, 131, 1998).
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from qhrtem_jax.errors import InputError

BAND_PER_NM = (1.2, 9.0)
"""Frequencies of reflections that are looked for."""

PADDED = 2
"""The spectrum is computed on so many times the pixels of the image."""

SCALES, ANGLES = 0.006, 0.6
"""Steps of the search: share of the scale, degrees."""

LEAST_MATCH = 0.25
"""A lattice whose reflections hold less than this of the spectrum is none."""

LEAST_PRESENT = 0.6
"""So much of the reflections, by their weights, has to stand out of the spectrum."""

MOST_ERROR = 0.02
"""Error of scale and angle from which on reflections are not those of one lattice."""

STANDS_OUT, LEAST_AMPLITUDE = 4.0, 0.02
"""Times the median of the spectrum around it, and share of the strongest reflection."""

TAPER_PX = 8.0
"""Width of the edges of what is looked at."""

COARSER = 6.0
"""Points within the width of what smooths a wave."""

ROUNDS = 6
WEAK = 0.15
"""Reflections weaker than this share of the strongest are not followed."""


@dataclasses.dataclass(frozen=True)
class Lattice:
    """`vectors`: rows a and b, (x, y) in pixels, perpendicular, in the crystal's proportion where
    a pixel's height is `aspect` times its width; `std_scale`, relative error of their lengths,
    `std_deg`, error of their direction; `match`, share of the image's spectrum (0 to 1) that the
    crystal's reflections explain."""

    vectors: Float[np.ndarray, "2 2"]
    std_scale: float
    std_deg: float
    match: float
    aspect: float = 1.0

    @property
    def std_px(self) -> Float[np.ndarray, "2 2"]:
        """Standard errors of `vectors`."""
        a_quarter_on = self.vectors[:, ::-1] * np.array([self.aspect, 1.0 / self.aspect])
        return np.hypot(self.std_scale * self.vectors, np.radians(self.std_deg) * a_quarter_on)

    @property
    def widths(self) -> Float[np.ndarray, "2 2"]:
        """`vectors` in widths of a pixel, along both axes."""
        return self.vectors * np.array([1.0, self.aspect])

    @property
    def angle_deg(self) -> float:
        """Of a against x, counterclockwise where x and y have one scale."""
        x, y = self.widths[0]
        return float(np.degrees(np.arctan2(-y, x)))


@dataclasses.dataclass(frozen=True)
class Reflections:
    """Of a projected cell: frequencies in 1/nm, `weights` that their amplitudes are expected to
    have; 0 for those that vanish."""

    per_nm: Float[np.ndarray, "n 2"]  # x, y
    weights: Float[np.ndarray, " n"]


def reflections_of(
    projected: Float[np.ndarray, "rows cols"], size_nm: tuple[float, float]
) -> Reflections:
    """Of a projected potential on a cell of `size_nm` = (x, y); half of the plane."""
    spectrum = np.abs(np.fft.fft2(projected))
    low, high = BAND_PER_NM
    most = [int(np.floor(high * n)) for n in size_nm]
    found = []
    for h, k in itertools.product(range(-most[0], most[0] + 1), range(most[1] + 1)):
        if k == 0 and h <= 0:
            continue
        q = np.array([h / size_nm[0], k / size_nm[1]])
        if low <= np.hypot(*q) <= high:
            found.append((*q, spectrum[k, h]))
    table = np.array(found)
    per_nm, weights = table[:, :2], table[:, 2] / table[:, 2].max()
    weights[weights < 0.02] = 0.0
    # the image's envelope, and the crystal's thickness, make far ones weaker and alike
    weights = np.sqrt(weights) * np.exp(-((np.hypot(*per_nm.T) / 7.0) ** 2))
    return Reflections(per_nm, weights)


def find_lattice(
    image: Float[np.ndarray, "rows cols"],
    where: Bool[np.ndarray, "rows cols"],
    reflections: Reflections,
    size_nm: tuple[float, float],
    pixels_per_nm: tuple[float, float],
    aspect: float = 1.0,
) -> Lattice:
    """The lattice of the crystal `where` it is seen, within a range of scales (of a pixel's shorter
    side), at any angle; a points to the right. `aspect`: height of a pixel over its width.

    **Raises:** `InputError` where no rotation and scale bring the crystal's reflections onto the
    image's.
    """
    if not where.any():
        raise InputError("found no part of the image with contrast, expected a crystal")
    sides = np.array([1.0, aspect]) / min(1.0, aspect)  # of a pixel, x and y, the shorter is 1
    image, where = _on_squares(image, sides), _on_squares(where.astype(float), sides) > 0.5
    window = gaussian_filter(where.astype(float), TAPER_PX, mode="constant") * where
    window /= window.max()
    contrast = np.where(where, image - image[where].mean(), 0.0) * window
    if BAND_PER_NM[1] / pixels_per_nm[1] > 0.5:
        raise InputError(
            f"found pixels of {1.0 / pixels_per_nm[1]:.3g} nm or more, expected at most "
            f"{0.5 / BAND_PER_NM[1]:.3g} nm to see a crystal's reflections"
        )
    spectrum = np.abs(np.fft.fft2(contrast, [PADDED * n for n in image.shape]))
    start, match = _search(spectrum, reflections, pixels_per_nm)
    present = _present(spectrum, reflections, start)
    if match < LEAST_MATCH or present < LEAST_PRESENT:
        raise InputError(
            f"found no lattice of this crystal: at best its reflections hold {100 * match:.0f} % "
            f"of the image's spectrum (expected more than {100 * LEAST_MATCH:.0f} %), and "
            f"{100 * present:.0f} % of what is expected of them is seen (more than "
            f"{100 * LEAST_PRESENT:.0f} %): is it the right crystal, zone and sampling?"
        )
    matrix, (scale, turn) = _followed(contrast, window, reflections, start)
    if max(scale, turn) > MOST_ERROR:
        raise InputError(
            f"found no lattice of this crystal: its reflections disagree by {100 * scale:.1f} % in "
            f"scale and {np.degrees(turn):.1f} degrees, expected less than {100 * MOST_ERROR:g} %"
        )
    vectors = np.diag(size_nm) @ matrix / sides
    return Lattice(vectors, float(scale), float(np.degrees(turn)), match, aspect)


def _on_squares(
    image: Float[np.ndarray, "rows cols"], sides: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "squares_down squares_across"]:
    """An image whose pixels have such sides (x, y), at the same place on squares of side 1."""
    if np.all(sides == 1.0):
        return image
    shape = [int((n - 1) * side) + 1 for n, side in zip(image.shape, sides[::-1], strict=True)]
    places = np.meshgrid(
        *(np.arange(n) / s for n, s in zip(shape, sides[::-1], strict=True)), indexing="ij"
    )
    return map_coordinates(image, places, order=3, mode="nearest")


def _search(
    spectrum: np.ndarray,
    reflections: Reflections,
    pixels_per_nm: tuple[float, float],
) -> tuple[Float[np.ndarray, "2 2"], float]:
    """(matrix of nm (x, y rows) to pixels, how much of the spectrum it explains)."""
    rows, cols = spectrum.shape
    low, high = np.log(pixels_per_nm)
    scales = np.exp(np.arange(low, high + 1e-9, SCALES)) if high > low else np.exp([low])
    angles = np.radians(np.arange(-90.0, 90.0, ANGLES))
    weights = reflections.weights / np.linalg.norm(reflections.weights)
    best, found = -1.0, np.eye(2)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols))
    power, edges = np.histogram(radius, 4096, (0.0, 0.75), weights=spectrum**2)
    up_to = np.append(0.0, np.cumsum(power))
    smooth = gaussian_filter(spectrum, 1.0, mode="wrap")
    for scale in scales:
        ends = np.interp(np.array(BAND_PER_NM) / scale, edges, up_to)
        total = float(ends[1] - ends[0]) / 2.0
        if total <= 0.0 or BAND_PER_NM[1] / scale > 0.5:
            continue
        turned = reflections.per_nm[:, 0] + 1j * reflections.per_nm[:, 1]
        turned = np.exp(1j * angles)[:, None] * turned / scale
        places = [turned.imag * rows, turned.real * cols]
        seen = map_coordinates(smooth, places, order=1, mode="grid-wrap")
        score = (seen @ weights) / np.sqrt(total)
        # a lattice that is too large has a reflection near every peak, and many near none
        score -= 0.5 * np.sqrt(np.sum(seen[:, weights == 0.0] ** 2, axis=1) / total)
        k = int(np.argmax(score))
        if score[k] > best:
            cosine, sine = np.cos(angles[k]) * scale, np.sin(angles[k]) * scale
            best, found = float(score[k]), np.array([[cosine, sine], [-sine, cosine]])
    return found, _explained(spectrum, reflections, found)


def _explained(spectrum: np.ndarray, reflections: Reflections, matrix: np.ndarray) -> float:
    """Share of the power within the band that lies beside the crystal's reflections."""
    rows, cols = spectrum.shape
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols))
    band = (radius > BAND_PER_NM[0] / scale) & (radius < BAND_PER_NM[1] / scale)
    places = reflections.per_nm[reflections.weights > 0.0] @ np.linalg.inv(matrix).T
    near = np.zeros(spectrum.shape, dtype=bool)
    reach = 1.5 * PADDED
    for x, y in np.concatenate([places, -places]):
        r, c = y * rows, x * cols
        box = np.ix_(
            np.arange(int(np.floor(r - reach)), int(np.ceil(r + reach)) + 1) % rows,
            np.arange(int(np.floor(c - reach)), int(np.ceil(c + reach)) + 1) % cols,
        )
        near[box] = True
    return float(np.sum(spectrum[near & band] ** 2) / np.sum(spectrum[band] ** 2))


def _present(spectrum: np.ndarray, reflections: Reflections, matrix: np.ndarray) -> float:
    """Share of the expected reflections, by their weights, that stand out of the spectrum."""
    rows, cols = spectrum.shape
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols))
    places = reflections.per_nm @ np.linalg.inv(matrix).T
    seen = np.zeros(len(places), dtype=bool)
    strongest = float(spectrum[radius > 0.5 * BAND_PER_NM[0] / scale].max())
    for k, (x, y) in enumerate(places):
        r, c = round(y * rows), round(x * cols)
        box = np.ix_(np.arange(r - 2, r + 3) % rows, np.arange(c - 2, c + 3) % cols)
        ring = np.abs(radius - np.hypot(x, y)) < 0.3 / scale
        height, around = spectrum[box].max(), np.median(spectrum[ring])
        seen[k] = height > max(STANDS_OUT * around, LEAST_AMPLITUDE * strongest)
    return float(np.sum(reflections.weights[seen]) / np.sum(reflections.weights))


def _followed(
    contrast: np.ndarray, window: np.ndarray, reflections: Reflections, matrix: np.ndarray
) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, " 2"]]:
    """(the matrix from nm to pixels, errors of its scale and its angle in rad) from the slopes of
    the phases of all strong reflections.

    With thickness and defocus the phase of a reflection changes over the image, of each in its own
    way: by how much they disagree says the errors.
    """
    per_nm = reflections.per_nm[reflections.weights > 0.0]
    error = np.zeros(2)
    for _ in range(ROUNDS):
        expected = per_nm @ np.linalg.inv(matrix).T
        reach = 0.7 / float(np.linalg.norm(expected, axis=1).min())
        followed = [_slope(contrast, window, q, reach) for q in expected]
        power = np.array([one[1] for one in followed])
        if not power.max() > 0.0:
            raise InputError("found no part of the image that is all crystal, expected some cells")
        strong = power > WEAK**2 * power.max()
        q = expected[strong] @ np.array([1.0, 1j])
        slope = np.array([one[0] for one in followed])[strong] @ np.array([1.0, 1j])
        change = slope / q  # of its length, and i times its turn
        weight = power[strong] * np.abs(q) ** 2
        mean = np.sum(weight * change) / weight.sum()
        independent = weight.sum() ** 2 / np.sum(weight**2)
        off = np.array([(change - mean).real, (change - mean).imag])
        spread = np.sum(weight * off**2, axis=1) / weight.sum()
        error = np.sqrt(spread / max(independent - 1.0, 1.0))
        cosine, sine = np.cos(mean.imag), np.sin(mean.imag)
        matrix = matrix @ np.array([[cosine, sine], [-sine, cosine]]) / (1.0 + mean.real)
    return matrix, error


def _slope(
    contrast: np.ndarray, window: np.ndarray, q: np.ndarray, reach: float
) -> tuple[Float[np.ndarray, " 2"], float]:
    """(how much the frequency of a reflection differs from `q`, in x and y, its power)."""
    rows, cols = contrast.shape
    y, x = np.arange(rows)[:, None], np.arange(cols)
    coarse = max(1, int(reach / COARSER))  # smoothed, the wave needs few points
    turned = contrast * np.exp(-2j * np.pi * q[1] * y) * np.exp(-2j * np.pi * q[0] * x)
    wave, inside = _binned(turned, coarse), _binned(window, coarse) > 0.5
    width = reach / coarse
    local = gaussian_filter(np.real(wave), width) + 1j * gaussian_filter(np.imag(wave), width)
    step = max(1, round(width / 2))
    along_x = local[:, step:] * np.conj(local[:, :-step])
    along_y = local[step:] * np.conj(local[:-step])
    sums = (
        np.sum(along_x[inside[:, step:] & inside[:, :-step]]),
        np.sum(along_y[inside[step:] & inside[:-step]]),
    )
    power = float(np.sum(np.abs(local[inside]) ** 2))
    return np.angle(sums) / (2.0 * np.pi * step * coarse), power


def _binned(image: NDArray[Any], by: int) -> NDArray[Any]:
    """Means of squares of `by` pixels; what is left over at the far edges is not used."""
    rows, cols = (n // by for n in image.shape)
    squares = image[: rows * by, : cols * by].reshape(rows, by, cols, by)
    return squares.mean(axis=(1, 3))
