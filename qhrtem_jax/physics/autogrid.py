"""The coarsest grids whose image error stays below a stated rms.

A multislice on a smaller grid equals one on a fine grid whose band limit is lowered (products of
band-limited functions do not alias into the band), so one program on a fine grid tells the error of
every smaller one. Behind the exit wave the microscope's envelopes cut further, so the image grid is
chosen on its own, with the folding of frequencies beyond it counted in.
"""

import dataclasses
import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.grid import Grid, kept_frequencies, smooth_size
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Microscope, Simulator, make_simulator
from qhrtem_jax.physics.specimen import Crystal

log = logging.getLogger(__name__)

REFERENCE_NYQUIST = 110.0
"""Nyquist frequency of the fine grid in 1/nm; its own error is about 2e-6 rms for BaTiO3."""


@dataclasses.dataclass(frozen=True)
class GridChoice:
    """Shapes (rows, cols) of wave and image grid, and the rms error of the image they cost."""

    grid: tuple[int, int]
    image: tuple[int, int]
    error: float


def choose_grids(
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    *,
    vectors: np.ndarray,
    slices: int,
    scattering: str,
    error: float,
    grid: tuple[int, int] | None = None,
) -> GridChoice:
    """Smallest grids whose image differs by at most `error` (rms, largest over `vectors`).

    **Arguments:** `vectors`, (n, parameters), parameter vectors that span what will be simulated;
    `grid`, a wave grid that is already decided, so that only the image grid is chosen.
    """
    size = crystal.grid((4, 4)).size_nm
    fine = grid or _shape(size, REFERENCE_NYQUIST)
    simulator = make_simulator(
        crystal, microscope, frame, grid_shape=fine, slices=slices, scattering=scattering
    )
    points = jnp.asarray(vectors, simulator.dtype)
    everything = np.ones(fine)
    reference = _intensities(simulator, points, simulator.band_mask, everything)
    transfer = _transfer(simulator, points)
    chosen, chosen_error, mask = fine, 0.0, simulator.band_mask
    if grid is None:
        frequency = np.hypot(*Grid(fine, size).frequencies())
        for shape in _candidates(size, fine):
            candidate = jnp.asarray(frequency <= Grid(shape, size).band_limit, simulator.dtype)
            spectra = _intensities(simulator, points, candidate, everything)
            rms = float(np.max(_rms((spectra - reference) * transfer)))
            if rms <= 0.6 * error:
                chosen, chosen_error, mask = shape, rms, candidate
                break
    image, image_error = _choose_image_grid(simulator, points, mask, reference, chosen, error)
    total = float(np.hypot(chosen_error, image_error))
    log.info("grid %s, image grid %s: image error %.1e rms", chosen, image, total)
    return GridChoice(chosen, image, total)


def _shape(size_nm: tuple[float, float], nyquist: float) -> tuple[int, int]:
    rows, cols = (smooth_size(2.0 * nyquist * length) for length in size_nm)
    return rows, cols


def _candidates(size_nm: tuple[float, float], below: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of rising Nyquist frequency, each no larger than `below`."""
    shapes = [_shape(size_nm, nyquist) for nyquist in np.arange(36.0, REFERENCE_NYQUIST, 2.0)]
    smaller = [s for s in shapes if s[0] * s[1] < below[0] * below[1]]
    return sorted(set(smaller), key=lambda s: (Grid(s, size_nm).nyquist, s[0] * s[1]))


@eqx.filter_jit
def _spectra(
    simulator: Simulator, vectors: jax.Array, band_mask: jax.Array, wave_mask: jax.Array
) -> jax.Array:
    """Intensity spectra (n, rows, half) with a lower band limit and a cut exit wave."""
    limited = eqx.tree_at(lambda s: s.band_mask, simulator, band_mask)

    def one(vector: jax.Array) -> jax.Array:
        parameters = limited.typed(vector)
        waves = limited.waves(parameters.absorption, parameters.tilt_rad)
        wave = limited.wave_at_thickness(waves, parameters.thickness) * wave_mask
        return limited.spectrum(wave, parameters)

    return jax.lax.map(one, vectors)


def _intensities(
    simulator: Simulator, vectors: jax.Array, band_mask: jax.Array, wave_mask: np.ndarray
) -> np.ndarray:
    mask = jnp.asarray(wave_mask, simulator.dtype)
    return np.asarray(_spectra(simulator, vectors, band_mask, mask))


def _transfer(simulator: Simulator, vectors: jax.Array) -> np.ndarray:
    """What the camera and the image spread leave of each frequency, (n, rows, half)."""
    camera = simulator.camera
    if camera.frame_transfer:  # acts on the frame's frequencies: counted as if it passed everything
        fine = simulator.phases.shape[1:]
        return np.ones((len(vectors), fine[0], fine[1] // 2 + 1))
    spread = np.asarray(vectors)[:, INDEX["image_spread"], None, None]
    return np.asarray(camera.transfer) * np.exp(-np.asarray(camera.spread_exponent) * spread**2)


def _rms(spectra: np.ndarray) -> np.ndarray:
    """Rms over the cell of images given by half spectra (n, rows, half)."""
    weight = np.full(spectra.shape[-1], 2.0)
    weight[0] = 1.0
    return np.sqrt(np.sum(weight * np.abs(spectra) ** 2, axis=(-2, -1)))


def _choose_image_grid(
    simulator: Simulator,
    vectors: jax.Array,
    band_mask: jax.Array,
    reference: np.ndarray,
    grid: tuple[int, int],
    error: float,
) -> tuple[tuple[int, int], float]:
    fine = simulator.phases.shape[1:]
    transfer = _transfer(simulator, vectors)
    ratio = grid[0] / grid[1]
    shapes = [
        (smooth_size(cols * ratio), cols)
        for cols in range(12, grid[1], 2)
        if smooth_size(cols) == cols and smooth_size(cols * ratio) <= grid[0]
    ]
    full = _intensities(simulator, vectors, band_mask, np.ones(fine))
    for shape in shapes:
        rows = kept_frequencies(fine[0], shape[0])
        cols = kept_frequencies(fine[1], shape[1])
        wave_mask = np.zeros(fine)
        wave_mask[np.ix_(rows, cols)] = 1.0
        spectra = _intensities(simulator, vectors, band_mask, wave_mask)
        folded = _fold(spectra, shape, fine)
        rms = float(np.max(_rms((folded - full) * transfer)))
        if rms <= 0.6 * error:
            return shape, rms
    return grid, float(np.max(_rms((full - reference) * transfer)))


def _fold(spectra: np.ndarray, shape: tuple[int, int], fine: tuple[int, ...]) -> np.ndarray:
    """Spectra as an image grid of `shape` would show them: higher frequencies fold back."""
    images = np.fft.irfft2(spectra, s=fine, norm="forward")
    full = np.fft.fft2(images, norm="forward")
    index_y = np.rint(np.fft.fftfreq(fine[0], 1.0 / fine[0])).astype(int) % shape[0]
    index_x = np.rint(np.fft.fftfreq(fine[1], 1.0 / fine[1])).astype(int) % shape[1]
    small = np.zeros((len(spectra), *shape), complex)
    for image, folded in zip(full, small, strict=True):
        np.add.at(folded, (index_y[:, None], index_x), image)
    result = np.zeros_like(full)
    rows, cols = kept_frequencies(fine[0], shape[0]), kept_frequencies(fine[1], shape[1])
    result[:, rows[:, None], cols] = small
    return result[:, :, : fine[1] // 2 + 1]
