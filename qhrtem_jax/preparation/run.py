"""Stage `prepare`: the lattice of a crystal in an image, and the image on its cells."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.image import is_square
from qhrtem_jax.inputs.instrument import build_simulator, choose_grid, spanning_vectors
from qhrtem_jax.inputs.rois import Region, choose_average
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import NoiseModel, measure_noise
from qhrtem_jax.micrograph.cells import (
    SPLINE,
    Cells,
    Resampled,
    cells_of,
    crystal_of,
    on_cells,
    whole_cells,
)
from qhrtem_jax.micrograph.lattice import Lattice, find_lattice, reflections_of
from qhrtem_jax.micrograph.noise_growth import grown
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.specimen import slice_phases
from qhrtem_jax.preparation.origin import Origin, find_origin
from qhrtem_jax.preparation.problem import PreparationProblem
from qhrtem_jax.preparation.result import (
    FoundLattice,
    FoundOrigin,
    FoundRegion,
    FoundVacuum,
    PreparationResult,
    Prepared,
)
from qhrtem_jax.reporting.numbers import sides
from qhrtem_jax.reporting.result import header

CALIBRATED = 0.06
"""A calibration is wrong by at most this share."""

SAMPLINGS_NM = (0.003, 0.05)
"""nm per pixel that are looked at where no calibration is known."""

PROJECTED_NM = 0.008
"""Points of the projection whose reflections are looked for."""

FIRST_WINDOW = 24
"""Pixels a side of the squares in which contrast is looked at before the cell is known."""

DOUBTFUL = 1.2
"""Origins whose single cells are missed by less than so many times the best's may be right."""

SYMMETRIC = 0.999
"""Correlation of a projection with its turned self from which on both are one."""


def run(problem: PreparationProblem, journal: Journal) -> PreparationResult:
    """Find the lattice, the origin and the whole cells, and draw the image on these."""
    image = problem.image
    noise = problem.noise
    variance = 0.0 if noise is None else noise.variance
    lattice = _lattice(problem, crystal_of(image, FIRST_WINDOW, variance))
    journal.note("lattice found")
    window = 0.5 * float(np.linalg.norm(lattice.vectors, axis=1).mean())
    where = crystal_of(image, window, variance)
    cells = cells_of(lattice.vectors, np.zeros(2))
    sampling = _sampling_of(cells, problem)
    origin = _origin(problem, cells, where, sampling)
    journal.note("origin found")
    origin_px = origin.shift @ lattice.vectors
    if origin.turned:
        lattice = dataclasses.replace(lattice, vectors=-lattice.vectors)
    cells = cells_of(lattice.vectors, origin_px)
    found = whole_cells(cells, where)
    if not len(found):
        raise InputError("found no whole cell of the crystal in the image, expected at least one")
    prepared = _drawn(problem, cells, found)
    own = _resampled_noise(problem, cells)
    first = np.array(prepared.first)
    named = [_pixel(cell) for cell in found]
    in_file = _file_sampling(lattice, problem)
    return PreparationResult(
        **header(problem.settings, problem.reader),
        warnings=(*problem.warnings, *_remarks(problem, lattice, origin, prepared)),
        lattice=FoundLattice(
            _pair(lattice.vectors[0]),
            _pair(lattice.vectors[1]),
            (_pair(lattice.std_px[0]), _pair(lattice.std_px[1])),
            lattice.angle_deg,
            lattice.std_deg,
            in_file,
            lattice.std_scale,
            problem.file_sampling,
            lattice.match,
        ),
        vacuum=_found_vacuum(problem),
        origin=FoundOrigin(
            _pair(cells.origin), origin.turned, origin.ncc, origin.ncc_elsewhere, origin.misfits
        ),
        bad_pixels=int(problem.bad.sum()),
        prepared=Prepared(
            cells.shape,
            sampling,
            float(np.sqrt(np.prod(in_file) / np.prod(sampling))),
            None if own is None else own.variance,
            None if own is None else tuple(own.lags),
            None if own is None else grown(problem.growth, own.variance),
            float(prepared.seen.mean()),
        ),
        rois=tuple(
            FoundRegion(
                f"ROI{k + 1}",
                tuple(_pair(corner) for corner in cells.corners(cell)),
                _pixel((np.array(cell) - first) * np.array(cells.shape)),
            )
            for k, cell in enumerate(named)
        ),
        cost=journal.cost(),
        arrays={
            "image": prepared.image,
            "seen": prepared.seen,
            "experiment": image.astype(np.float32),
            "bad": problem.bad,
        },
        history=tuple(journal.rows),
    )


def _found_vacuum(problem: PreparationProblem) -> FoundVacuum | None:
    vacuum, noise, growth = problem.vacuum, problem.noise, problem.growth
    if vacuum is None or noise is None:
        return None
    grows = (None, None) if growth is None else (growth.slope, growth.std)
    return FoundVacuum(vacuum.level, vacuum.region, noise.variance, tuple(noise.lags), *grows)


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _pixel(values: np.ndarray) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _lattice(problem: PreparationProblem, where: Bool[np.ndarray, "rows cols"]) -> Lattice:
    """The lattice within what is known of the sampling."""
    a, b = problem.crystal.size_nm[:2]
    shape = max(16, round(b / PROJECTED_NM)), max(16, round(a / PROJECTED_NM))
    reflections = reflections_of(_projected(problem, shape), (a, b))
    known = problem.given_sampling or problem.file_sampling
    if known is None:
        scales, aspect = (1.0 / SAMPLINGS_NM[1], 1.0 / SAMPLINGS_NM[0]), 1.0
    else:
        aspect = 1.0 if is_square(known) else known[0] / known[1]
        pixels = 1.0 / (min(known) if aspect != 1.0 else float(np.sqrt(known[0] * known[1])))
        scales = (pixels / (1.0 + CALIBRATED), pixels * (1.0 + CALIBRATED))
    return find_lattice(problem.image, where, reflections, (a, b), scales, aspect)


def _projected(
    problem: PreparationProblem, shape: tuple[int, int]
) -> Float[np.ndarray, "rows cols"]:
    """The crystal's potential, projected along the beam."""
    model = problem.microscope.potential_model(problem.settings.specimen.scattering)
    return slice_phases(problem.crystal, model, problem.crystal.grid(shape)).sum(axis=0)


def _file_sampling(lattice: Lattice, problem: PreparationProblem) -> tuple[float, float]:
    """(row, col) nm per pixel of the file, by the crystal, in whose proportion the edges are."""
    width = problem.crystal.size_nm[0] / float(np.linalg.norm(lattice.widths[0]))
    return lattice.aspect * width, width


def _sampling_of(cells: Cells, problem: PreparationProblem) -> tuple[float, float]:
    """(row, col) nm per pixel where the image follows the cells."""
    a, b = problem.crystal.size_nm[:2]
    return b / cells.shape[0], a / cells.shape[1]


def _origin(
    problem: PreparationProblem,
    cells: Cells,
    where: Bool[np.ndarray, "rows cols"],
    sampling: tuple[float, float],
) -> Origin:
    """The origin of the crystal, from the cells of the lattice as it is found."""
    some = whole_cells(cells, where)
    if not len(some):
        raise InputError("found no whole cell of the crystal in the image, expected at least one")
    stack = np.array([_cell(problem.image, cells, (int(i), int(j))) for i, j in some])
    settings, space, crystal = problem.settings, problem.space, problem.crystal
    frame = Frame(cells.shape, sampling)
    slices = space.thickness_range[1]
    vectors = spanning_vectors(space, seed=0)
    choice = choose_grid(settings, crystal, problem.microscope, frame, vectors, slices)
    simulator = build_simulator(settings, crystal, problem.microscope, frame, choice, slices)
    projected = _projected(problem, (32, 32))
    both_ways = bool(_correlation(projected, projected[::-1, ::-1]).max() < SYMMETRIC)
    rows, cols = np.nonzero(_correlation(projected, projected) > SYMMETRIC)
    translations = np.stack([cols, rows], axis=1)[1:] / np.array(projected.shape[::-1])
    regions = tuple(Region(f"cell {k}", (k, 0), cell) for k, cell in enumerate(stack))
    mean = stack[[k for k, _ in choose_average(regions)]].mean(axis=0)
    return find_origin(
        mean, stack, simulator, space, both_ways=both_ways, translations=translations
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "rows cols"]:
    """Of two periodic pictures, at every shift."""
    spectra = [np.fft.fft2(p - p.mean()) for p in (one, other)]
    both = np.fft.ifft2(spectra[0] * np.conj(spectra[1])).real * one.size
    return both / float(np.prod([np.linalg.norm(s) for s in spectra]))


def _cell(image: np.ndarray, cells: Cells, cell: tuple[int, int]) -> Float[np.ndarray, "rows cols"]:
    return on_cells(image, cells, cell, (cell[0] + 1, cell[1] + 1)).image


def _drawn(problem: PreparationProblem, cells: Cells, found: np.ndarray) -> Resampled:
    """The image on all pixels of the cells that are found, and what is above them."""
    low, high = found.min(axis=0), found.max(axis=0) + 1
    rows, cols = problem.image.shape
    # cells at the edge of the crystal, and its vacuum, are neighbours of the whole ones
    while _shows(cells, (int(low[0]) - 1, int(low[1])), (int(low[0]), int(high[1])), rows, cols):
        low[0] -= 1
    return on_cells(problem.image, cells, _pixel(low), _pixel(high), problem.bad)


def _shows(cells: Cells, low: tuple[int, int], high: tuple[int, int], rows: int, cols: int) -> bool:
    """Whether the file shows all of the cells from `low` to before `high`."""
    corners = np.concatenate(
        [cells.corners((i, j)) for i in (low[0], high[0] - 1) for j in (low[1], high[1] - 1)]
    )
    return bool(np.all((corners >= -1.0) & (corners <= np.array([cols, rows]))))


def _resampled_noise(problem: PreparationProblem, cells: Cells) -> NoiseModel | None:
    """Noise of a pixel where the image follows the cells, from the vacuum."""
    if problem.vacuum is None:
        return None
    row, col, rows, cols = problem.vacuum.region
    patch = problem.image[row : row + rows, col : col + cols]
    # a square of pixels, turned as the cells are, within the patch
    size = np.linalg.norm(cells.vectors, axis=1) / np.array(cells.shape[::-1])
    count = max(int(0.7 * min(cols / size[0], rows / size[1])), 8)
    y, x = np.mgrid[:count, :count] - 0.5 * count
    around = dataclasses.replace(cells, origin=0.5 * np.array([cols, rows], float))
    places = around.to_file(np.stack([x.ravel(), y.ravel()], axis=1))
    inside = np.all((places >= 0.0) & (places <= np.array([cols, rows]) - 1.0), axis=1)
    if not inside.all():
        return measure_noise(patch)
    values = map_coordinates(patch, places.T[::-1], order=SPLINE, mode="nearest")
    return measure_noise(values.reshape(count, count))


def _remarks(
    problem: PreparationProblem, lattice: Lattice, origin: Origin, prepared: Resampled
) -> list[str]:
    """What a user should hear."""
    said = []
    mine = np.array(_file_sampling(lattice, problem))
    for name, known in (
        ("the sampling of the file", problem.file_sampling),
        ("the sampling that is given", problem.given_sampling),
    ):
        far = 0.0 if known is None else np.max(np.abs(np.array(known) / mine - 1.0))
        if known is not None and far > max(0.003, 3.0 * lattice.std_scale):
            said.append(
                f"{name}, {sides(known)} nm per pixel, differs from what the crystal says, "
                f"{sides(_pair(mine))}, which is used"
            )
    close = [misfit for misfit in origin.misfits if misfit < DOUBTFUL * min(origin.misfits)]
    if len(close) > 1:
        known = problem.settings.specimen
        found = "stage stitch finds that" if known.entrance_sought else "the first is taken"
        said.append(
            f"the origin of the cell is doubtful: {len(close)} places explain single cells nearly "
            f"as well (NCC {100 * origin.ncc:.2f} and {100 * origin.ncc_elsewhere:.2f} %); with "
            f"which plane the crystal begins depends on it, and {found}; numbers of regions one by "
            "one may be an atom off"
        )
    if not prepared.seen.all():
        said.append(
            f"{100 * (1.0 - prepared.seen.mean()):.1f} % of the prepared image lie outside of the "
            "file's, or on bad pixels: they carry no weight, and show what near cells do"
        )
    if problem.bad.any():
        said.append(f"{problem.bad.sum()} bad pixels of the file are not used")
    return said
