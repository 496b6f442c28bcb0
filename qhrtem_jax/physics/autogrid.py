"""The coarsest grids and fewest foci whose image error stays below a stated rms.

A multislice on a smaller grid is close to one on a fine grid whose band limit is lowered (products
of band-limited functions do not alias into the band), so one program on a fine grid foretells the
error of every smaller one; what is chosen is then compared with the fine one itself. Behind the
exit wave the microscope's envelopes cut further, so the image grid is chosen on its own, with the
folding of frequencies beyond it counted in.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.grid import Grid, kept_frequencies, smooth_size
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.simulator import Simulator, make_simulator
from qhrtem_jax.physics.specimen import Crystal

log = logging.getLogger(__name__)

REFERENCE_NYQUIST = 110.0
"""Nyquist frequency in 1/nm of the first fine grid that is tried as the reference."""

FINEST_NYQUIST = 450.0

FOCI = ((15, 2.4), (21, 2.6), (31, 2.8), (45, 3.0))
"""Numbers of foci and their extent in focus spreads, from coarse to fine."""

REFERENCE_FOCI = SourceSampling(foci=81, focal_extent=3.4)


@dataclasses.dataclass(frozen=True)
class GridChoice:
    """How finely images are computed, and the rms error of the image that it costs.

    `grid`, `image`: shapes (rows, cols) of wave and image grid; `error` is None where the grid was
    given and nothing was compared.
    """

    grid: tuple[int, int]
    image: tuple[int, int]
    source: SourceSampling
    error: float | None


def choose_grids(
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    *,
    vectors: Float[np.ndarray, "n parameters"],
    slices: int,
    scattering: str,
    thermal_absorption: bool = False,
    error: float,
    grid: tuple[int, int] | None = None,
) -> GridChoice:
    """Smallest grids and fewest foci whose images differ by at most about `error` from fine ones.

    **Arguments:** `error`, rms, the largest over `vectors`; `vectors`, parameter vectors that span
    what will be simulated; `grid`, a wave grid that is already decided, so that only the image grid
    and the foci are chosen.

    **Returns:** the choice, with the error that its own simulator showed against the fine one.
    """
    build = functools.partial(
        make_simulator,
        crystal,
        microscope,
        frame,
        slices=slices,
        scattering=scattering,
        thermal_absorption=thermal_absorption,
    )
    size = crystal.grid((4, 4)).size_nm
    fine = grid or _shape(size, REFERENCE_NYQUIST)
    simulator = build(grid_shape=fine)
    points = jnp.asarray(vectors, simulator.dtype)
    everything = np.ones(fine)
    if grid is None:
        while True:
            # the fine grid must itself be converged: a lower band limit may change little only
            reference = _intensities(simulator, points, simulator.propagation.band_mask, everything)
            lower = _band_mask(fine, size, 0.8 * Grid(fine, size).band_limit)
            change = _intensities(simulator, points, jnp.asarray(lower, points.dtype), everything)
            doubt = float(np.max(_rms((change - reference) * _transfer(simulator, points))))
            if doubt < 0.5 * error or Grid(fine, size).nyquist > FINEST_NYQUIST:
                break
            fine = _shape(size, 1.4 * Grid(fine, size).nyquist)
            simulator, everything = build(grid_shape=fine), np.ones(fine)
        if doubt >= 0.5 * error:
            log.warning("no grid reaches an image error of %.0e: found %.0e", error, doubt)
    else:
        reference = _intensities(simulator, points, simulator.propagation.band_mask, everything)
    transfer = _transfer(simulator, points)
    chosen, mask = fine, simulator.propagation.band_mask
    for shape in _candidates(size, fine) if grid is None else ():
        candidate = jnp.asarray(_band_mask(fine, size, Grid(shape, size).band_limit), points.dtype)
        spectra = _intensities(simulator, points, candidate, everything)
        if float(np.max(_rms((spectra - reference) * transfer))) <= 0.6 * error:
            chosen, mask = shape, candidate
            break
    image = _choose_image_grid(simulator, points, mask, chosen, error)
    source, many = microscope.source, microscope.source
    if microscope.coherence == "focal_sum" and not microscope.drprobe:
        source, many = _choose_foci(build, chosen, image, points, error), REFERENCE_FOCI
    found = build(grid_shape=chosen, image_shape=image, source=source)
    exact = build(grid_shape=fine, source=many)
    difference = np.asarray(found.images(points)) - np.asarray(exact.images(points))
    total = float(np.max(np.sqrt(np.mean(difference**2, axis=(1, 2)))))
    log.info(
        "grid %s, image grid %s, %d foci: image error %.1e rms", chosen, image, source.foci, total
    )
    return GridChoice(chosen, image, source, total)


def _choose_foci(
    build: Callable[..., Simulator],
    grid: tuple[int, int],
    image: tuple[int, int],
    points: jax.Array,
    error: float,
) -> SourceSampling:
    """Fewest foci whose images differ by at most `error` from those of many."""
    many = build(grid_shape=grid, image_shape=image, source=REFERENCE_FOCI)
    reference = np.asarray(many.images(points))
    for foci, extent in FOCI:
        source = SourceSampling(foci=foci, focal_extent=extent)
        few = build(grid_shape=grid, image_shape=image, source=source)
        difference = np.asarray(few.images(points)) - reference
        rms = float(np.max(np.sqrt(np.mean(difference**2, axis=(1, 2)))))
        if rms <= error:
            return source
    log.warning("no number of foci reaches an image error of %.0e: found %.0e", error, rms)
    return source


def _band_mask(shape: tuple[int, int], size_nm: tuple[float, float], limit: float) -> np.ndarray:
    return np.hypot(*Grid(shape, size_nm).frequencies()) <= limit


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
    limited = eqx.tree_at(lambda s: s.propagation.band_mask, simulator, band_mask)

    def one(vector: jax.Array) -> jax.Array:
        parameters = limited.typed(vector)
        waves = limited.waves(parameters)
        wave = limited.wave_at_thickness(waves, parameters.thickness) * wave_mask
        return limited.formation.spectrum(wave, parameters.formation)

    return jax.lax.map(one, vectors)


def _intensities(
    simulator: Simulator, vectors: jax.Array, band_mask: jax.Array, wave_mask: np.ndarray
) -> np.ndarray:
    mask = jnp.asarray(wave_mask, simulator.dtype)
    return np.asarray(_spectra(simulator, vectors, band_mask, mask))


def _transfer(simulator: Simulator, vectors: jax.Array) -> np.ndarray:
    """What the camera and the image spread leave of each frequency, (n, rows, half)."""
    camera = simulator.formation.camera
    if camera.frame_transfer:  # acts on the frame's frequencies: counted as if it passed everything
        fine = simulator.phases.shape[1:]
        return np.ones((len(vectors), fine[0], fine[1] // 2 + 1))
    return np.asarray(jax.vmap(lambda v: camera.damping(simulator.typed(v).formation))(vectors))


def _rms(spectra: np.ndarray) -> np.ndarray:
    """Rms over the cell of images given by half spectra (n, rows, half)."""
    weight = np.full(spectra.shape[-1], 2.0)
    weight[0] = 1.0
    return np.sqrt(np.sum(weight * np.abs(spectra) ** 2, axis=(-2, -1)))


def _choose_image_grid(
    simulator: Simulator,
    vectors: jax.Array,
    band_mask: jax.Array,
    grid: tuple[int, int],
    error: float,
) -> tuple[int, int]:
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
            return shape
    return grid


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
