"""What a refined field leaves over, taken apart: what all cells miss alike, what is smooth, what
belongs to single columns, and what is local but at no column.

The parts are orthogonal, so that their powers add up, and each is compared with what the camera's
noise has in it before any fit: of the last but one, and of low frequencies, fits of each region's
columns and shifts take a part. The mean cell of all regions holds what lies on the lattice's
frequencies, and the deviations from it what lies between them. Regions begin at whole pixels, up to
half of one off the lattice, so that a part of what is alike counts as local: 3 % of it at 10/nm
with pixels of 0.009 nm, 13 % with 0.02 nm.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.result import RemainingBand, RemainingPart, Remains
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.speckle import cosine_frequencies, cosines, power_in_cosines
from qhrtem_jax.refine.whole_field import SHIFT
from qhrtem_jax.reporting.spectrum import EDGES, per_nm

PARTS = ("alike in all cells", "smooth", "at single columns", "local")

COLUMN_NM = 0.04
"""Standard deviation of the peak that a column is taken to leave: 0.09 nm across."""

Basis = Float[np.ndarray, "members rows cols"]


@dataclasses.dataclass(frozen=True)
class Decomposed:
    """Powers of the parts and of the bands, and the parts themselves."""

    remains: Remains
    images: Float[np.ndarray, "parts regions rows cols"]


def remains_of(
    model: FieldModel, state: JointState, missed: Float[np.ndarray, "regions rows cols"]
) -> Decomposed | None:
    """What `missed`, the regions in the simulation of the field less the experiment, is made of;
    None of a single region, all of which is alike in all cells."""
    if len(missed) == 1:
        return None
    frame, layout = model.problem.field.frame, model.layout
    shifts = state.points[:, layout.shifts].reshape(len(missed), -1, 2)
    places = model.columns.xy_nm + np.mean(shifts + state.points[:, None, SHIFT], axis=0)
    columns = column_basis(
        places / np.array(frame.sampling_nm)[::-1],
        np.array(model.columns.size_nm[:2]) / np.array(frame.sampling_nm)[::-1],
        COLUMN_NM / np.array(frame.sampling_nm)[::-1],
        missed.shape[1:],
    )
    return decomposed(missed, columns, model.given_noise, frame.sampling_nm)


def column_basis(
    places: Float[np.ndarray, "columns 2"],
    cell: Float[np.ndarray, " 2"],
    width: Float[np.ndarray, " 2"],
    shape: tuple[int, int],
) -> Basis:
    """A peak at each column, and its slopes along x and y: what a column that is too strong, or at
    another place, leaves. `places` in pixels (x, y), repeated after a `cell`; `width` of peaks."""
    found = []
    for place in places:
        x, y = (
            ((np.arange(n) - at + size / 2.0) % size - size / 2.0) / wide
            for n, at, size, wide in zip(shape[::-1], place, cell, width, strict=True)
        )
        peak = np.exp(-0.5 * (y[:, None] ** 2 + x**2))
        found += [peak, peak * x, peak * y[:, None]]
    return np.array(found)


def decomposed(
    missed: Float[np.ndarray, "regions rows cols"],
    columns: Basis,
    noise: NoiseModel | None,
    sampling_nm: tuple[float, float],
) -> Decomposed:
    """Residuals of two regions or more in parts; `columns`: what single columns may leave."""
    count, shape = len(missed), missed.shape[1:]
    mean = missed.mean(axis=0)
    others = (missed - mean).reshape(count, -1)
    smooth = np.kron(cosines(shape[0])[:2], cosines(shape[1])[:2]).T
    peaks = columns.reshape(len(columns), -1).T
    axes, lengths, _ = np.linalg.svd(peaks - smooth @ (smooth.T @ peaks), full_matrices=False)
    peaks = axes[:, lengths > 1e-6 * lengths.max()]  # columns may coincide
    parts = [np.broadcast_to(mean.ravel(), others.shape)]
    parts += [(others @ basis) @ basis.T for basis in (smooth, peaks)]
    parts.append(others - parts[1] - parts[2])
    expected: list[float | None] = [None] * len(parts)
    if noise is not None:
        rest = 1.0 - 1.0 / count
        slowly, at_columns = (rest * _noise_in(basis, noise, shape) for basis in (smooth, peaks))
        left = rest * noise.variance - slowly - at_columns
        expected = [noise.variance / count, slowly, at_columns, left]
    powers = [float(np.mean(part**2)) for part in parts]
    found = Remains(
        tuple(RemainingPart(*one) for one in zip(PARTS, powers, expected, strict=True)),
        _bands(missed, noise, sampling_nm),
    )
    return Decomposed(found, np.array(parts).reshape(len(parts), *missed.shape))


def _noise_in(basis: np.ndarray, noise: NoiseModel, shape: tuple[int, int]) -> float:
    """The camera's noise in what orthonormal columns span, as a mean over the pixels."""
    images = basis.T.reshape(-1, *shape)
    blurred = noise.correlation(shape[0]) @ images @ noise.correlation(shape[1])
    return float(noise.variance * np.sum(images * blurred) / (shape[0] * shape[1]))


def _bands(
    missed: np.ndarray, noise: NoiseModel | None, sampling_nm: tuple[float, float]
) -> tuple[RemainingBand, ...]:
    """Powers by frequency, on the lattice's frequencies and between them, each as white noise of
    the same power would have it."""
    count, shape = len(missed), missed.shape[1:]
    mean = missed.mean(axis=0)
    on_lattice = count * np.abs(np.fft.fft2(mean, norm="ortho")) ** 2
    between = power_in_cosines(missed - mean).sum(axis=0) / (count - 1)
    f_y, f_x = (cosine_frequencies(n) for n in shape)
    q = per_nm(f_y, f_x, sampling_nm)
    at_lattice = per_nm(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), sampling_nm)
    camera = None if noise is None else noise.of_camera(f_y, f_x)
    found = []
    for low, high in itertools.pairwise(EDGES):
        inside, mine = (q >= low) & (q < high), (at_lattice >= low) & (at_lattice < high)
        if not inside.any():
            continue
        own = None if camera is None else float(camera[inside].mean())
        alike = float(on_lattice[mine].mean()) if mine.any() else None
        end = min(high, float(q.max()))
        found.append(RemainingBand(low, end, alike, float(between[inside].mean()), own))
    return tuple(found)
