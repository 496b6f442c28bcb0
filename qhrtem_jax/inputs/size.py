"""Time and memory of a stage, estimated from its settings before its work starts.

Orders of magnitude: sizes of the arrays that a stage holds at once, and operations at the speed of
a CPU core; a graphics card is faster. What does not fit into memory is refused by the option that
is furthest from the ordinary among those that the largest part depends on.
"""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.memory import free_bytes
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.large_arrays import LARGE_BYTES
from qhrtem_jax.matching.band import MOST_PIXELS
from qhrtem_jax.matching.criteria import CRITERIA, SumOfSquares
from qhrtem_jax.numerics import devices
from qhrtem_jax.physics.autogrid import FINEST_NYQUIST, REFERENCE_NYQUIST
from qhrtem_jax.physics.specimen import Crystal

log = logging.getLogger(__name__)

GIB = 2.0**30
BASE_BYTES = {
    "mtf": 0.4 * GIB,
    "explore": 0.6 * GIB,
    "simulate": 0.5 * GIB,
    "imaging": 0.95 * GIB,
    "structure": 0.95 * GIB,
}
"""Libraries, and what XLA compiles; columns: as structure."""

POINT_S = 3e-8
"""Seconds per point of a wave and slice, or image and focus (two FFTs)."""

COMPILE_S = {"simulate": 8.0, "imaging": 30.0, "structure": 40.0}
"""Seconds of choosing grids and of compilation without a cache; columns: as structure."""

BATCH_S = 0.3
"""Seconds that a surrogate of 256 training points takes to propose a batch."""

JACOBIANS = {"structure": 60, "reconstruct": 50, "stitch": 110}
"""Jacobians of one region until its fit has converged, about."""

FROZEN = 2.5
"""Times that a slice takes whose atoms stand displaced."""

ANGLES = 137
"""Illumination angles of coherence=explicit."""

FOCI = 31
CHOSEN_NYQUIST = 75.0
"""Nyquist frequency in 1/nm that specimen.grid=auto comes to, about."""

IMAGE_NYQUIST = 40.0

LONG_EDGE_NM = 3.0
THIN_PER_NM3 = 1.0
"""Fewer atoms per nm^3 are no solid: caesium has 8, and a cell in Angstrom 1000 times too few."""


@dataclasses.dataclass(frozen=True)
class Share:
    """Bytes held at once, with the options they depend on: (value, how far above the ordinary)."""

    bytes: float
    options: dict[str, tuple[Any, float]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a stage takes."""

    stage: str
    seconds: float
    shares: tuple[Share, ...]

    @property
    def bytes(self) -> float:
        return self.base + sum(share.bytes for share in self.shares)

    @property
    def base(self) -> float:
        """Bytes that no option changes."""
        return BASE_BYTES.get(self.stage, BASE_BYTES["structure"])

    @property
    def option(self) -> tuple[str, Any]:
        """The option to change, and its value."""
        options = max(self.shares, key=lambda share: share.bytes).options
        name = max(options, key=lambda name: options[name][1])
        return name, options[name][0]


def require(estimate: Estimate, settings: Settings) -> None:
    """Log the estimate, and refuse what does not fit into memory.

    **Raises:** `InputError` that names the option to change.
    """
    chosen = settings.memory_gb
    limit = free_bytes() if isinstance(chosen, str) else chosen * GIB
    source = "free" if isinstance(chosen, str) else "memory_gb"
    needed, allowed = f"{estimate.bytes / GIB:.1f} GiB", f"{limit / GIB:.1f} GiB"
    if estimate.base > limit:
        raise InputError(
            f"memory_gb: found {allowed} ({source}), expected at least "
            f"{estimate.base / GIB:.1f} GiB, which {estimate.stage} takes whatever the options"
        )
    if estimate.bytes > limit:
        name, value = estimate.option
        raise InputError(
            f"{name}: found {value}, with which {estimate.stage} needs about {needed} of memory, "
            f"expected at most {allowed} ({source}); choose {_gentler(name)}"
        )
    log.info(
        "estimate of %s: %s, %s (%s: %s)",
        estimate.stage,
        duration(estimate.seconds),
        needed,
        source,
        allowed,
    )


def _gentler(option: str) -> str:
    """Which way an option takes less."""
    if option == "specimen.grid_error":
        return "a larger one"
    return "thinner specimens" if option == "simulate.table" else "a smaller one"


def duration(seconds: float) -> str:
    """As one says it: "about 3 min"."""
    if seconds < 90.0:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    if seconds < 5400.0:
        return f"about {seconds / 60.0:.0f} min"
    return f"about {seconds / 3600.0:.0f} h" if seconds < 2e5 else f"about {seconds / 86400:.0f} d"


def simulate(
    settings: Settings,
    crystal: Crystal,
    vectors: int,
    slices: int,
    shape: tuple[int, int],
    *,
    thick: str,
    waves: int,
    tiles: tuple[int, int] = (1, 1),
) -> Estimate:
    """Of `vectors` images of `shape` (and `waves` kinds of waves) through up to `slices` slices,
    whose number the option `thick` sets, of `tiles` cells side by side."""
    sizes = _Sizes(settings, crystal, slices)
    cells, known = tiles[0] * tiles[1], settings.specimen
    frozen = known.phonons == "frozen"
    repeats = cells * known.configurations * FROZEN if frozen else 1.0
    tiled = {"specimen.phonon_cells": (list(tiles), cells / 36.0)}
    pixels, name = (
        shape[0] * shape[1],
        "data.roi_shape" if settings.data.roi_shape else "data.shape",
    )
    image = {name: (list(shape), pixels / 4096.0), "simulate.table": (f"{vectors} rows", vectors)}
    kept = waves * sizes.chosen * cells
    one = slices * sizes.chosen + sizes.foci * sizes.chosen
    camera = shape[0] * shape[1] * np.sqrt(sizes.chosen) * 4e-10
    return Estimate(
        "simulate",
        COMPILE_S["simulate"]
        + sizes.choice_s
        + vectors * (1 + (waves > 0)) * (one * repeats * POINT_S + camera),
        (
            *sizes.shares(thick, slices),
            # what is large lies on disk
            Share(pixels * 150.0 + 2.0 * min(4.0 * pixels * vectors, LARGE_BYTES), image),
            Share(min(8.0 * kept * vectors, LARGE_BYTES), image),
            Share(cells * sizes.chosen * 200.0 if frozen else 0.0, tiled),
        ),
    )


def imaging(
    settings: Settings, crystal: Crystal, space: ParameterSpace, shape: tuple[int, int]
) -> Estimate:
    """Of the fit of one image of `shape`."""
    chosen = settings.optimizer
    low, high = space.thickness_range
    sizes = _Sizes(settings, crystal, high)
    thicknesses = high - low + 1 if "thickness" in space.profiled else 1
    pixels, d = shape[0] * shape[1], len(space.fitted.space)
    large = pixels > MOST_PIXELS and settings.microscope.compatibility != "drprobe"
    band = large and settings.objective.criterion == "mse"
    data = min(pixels, sizes.image) if band else pixels
    pixel = {"data.frame": (list(shape), pixels / 4096.0)}
    tall = {"parameters.thickness.high": (high, high / 50.0)}
    bayesian, descending = chosen.name != "lm", chosen.name != "turbo"
    capacity = chosen.max_evaluations if bayesian else 4 * chosen.starts
    training = min(chosen.most_training_points, capacity) if bayesian else 0
    squares = issubclass(CRITERIA[settings.objective.criterion], SumOfSquares)
    composite = chosen.surrogate == "composite" or (chosen.surrogate == "auto" and squares)
    kept = data + d if bayesian and composite else 0
    batch = min(chosen.batch, chosen.max_evaluations)
    budget = {
        "optimizer.max_evaluations": (chosen.max_evaluations, capacity / 256.0),
        "optimizer.training_points": (chosen.training_points, training / 256.0),
    }
    one = high * sizes.chosen + thicknesses * sizes.foci * sizes.image
    jacobian = 4.0 * high * sizes.chosen + 2.0 * (d + 1) * sizes.foci * sizes.image
    jacobians = min(40, chosen.max_iterations) * (chosen.starts + 6) if descending else 0
    camera = data * np.sqrt(sizes.image) * 4e-10
    steps = capacity / batch * BATCH_S * max(training / 256.0, 0.3) ** 2 if bayesian else 0.0
    seconds = COMPILE_S["imaging"] + sizes.choice_s + steps
    seconds += capacity * (one * POINT_S + 7.0 * thicknesses * camera)
    seconds += jacobians * (jacobian * POINT_S + 3.0 * d * camera)
    if chosen.max_seconds is not None:
        seconds = min(seconds, COMPILE_S["imaging"] + chosen.max_seconds)
    return Estimate(
        "imaging",
        seconds,
        (
            *sizes.shares("parameters.thickness.high", high),
            Share(_together() * thicknesses * data * 4.0 * 6.0, tall | pixel),
            Share(
                12.0 * kept * (capacity + training) + 8.0 * capacity * (d + 40),
                budget | pixel,
            ),
            Share(
                training**2 * 8.0 * 24.0,
                {"optimizer.training_points": budget["optimizer.training_points"]},
            ),
            Share(
                batch * data * 12.0 + capacity * 8.0 * d,
                {"optimizer.batch": (batch, batch / 8.0)} | pixel,
            ),
            Share(pixels * 150.0 + d * data * 48.0, pixel),
        ),
    )


def knife_edge(shape: tuple[int, int], reach_px: float) -> Estimate:
    """Of an edge across an image of `shape`."""
    pixels = shape[0] * shape[1]
    near = min(pixels, 2.0 * reach_px * 1.5 * max(shape))
    return Estimate(
        "mtf",
        3.0 + 2e-6 * pixels + 1e-5 * near,
        (
            Share(pixels * 80.0, {"data.frame": (list(shape), pixels / 1e6)}),
            Share(near * 150.0, {"mtf.reach_px": (reach_px, reach_px / 64.0)}),
        ),
    )


def exploration(
    settings: Settings,
    shape: tuple[int, int],
    side: int,
    windows: int,
    points: int,
    *,
    atoms: bool,
) -> Estimate:
    """Of an image of `shape` in `windows` of `side` pixels, of which `points` are measured;
    `atoms`: a network looks for these."""
    pixels = float(shape[0] * shape[1])
    seconds = 20.0 + 2e-6 * windows * side**2 + (180.0 if atoms else 0.0)
    seconds += points / 10.0 * (0.05 + 5.5 * (points / 1024.0) ** 3)
    window = {"explore.window_px": (side, side / 48.0)}
    frame = {"data.frame": (list(shape), pixels / 1e6)}
    return Estimate(
        "explore",
        seconds,
        (
            Share(windows * side**2 * 60.0, window),
            # a column of atoms takes a hundred pixels and more, and has a patch
            Share(pixels * (60.0 + (0.16 * side**2 if atoms else 0.0)), frame),
        ),
    )


def columns(
    settings: Settings,
    crystal: Crystal,
    *,
    stage: str,
    stack: int,
    shape: tuple[int, int],
    coordinates: int,
    regions: int = 1,
    field: tuple[int, int] | None = None,
    sweeps: int = 0,
) -> Estimate:
    """Of fits of `coordinates` numbers to each of `regions` images of `shape`, through `stack`
    slices; `field`, pixels of the whole image where it is fitted as one, in `sweeps`."""
    sizes = _Sizes(settings, crystal, stack)
    pixels = shape[0] * shape[1]
    name = "parameters.thickness.high" if stage == "structure" else "specimen.max_cells"
    cells = stack // crystal.slices
    tall = {name: (stack if stage == "structure" else cells, cells / 7.0)}
    many = {"data.rois": (f"{regions} regions", regions / 16.0)}
    pixel = {"data.roi_shape": (list(shape), pixels / 4096.0)}
    one = 2.0 * (coordinates + 1) * (stack * sizes.chosen + sizes.foci * sizes.image) * POINT_S
    seconds = COMPILE_S["structure"] + sizes.choice_s + JACOBIANS[stage] * regions * one
    shares = [
        *sizes.shares(name, stack),
        Share((stack + 8.0) * sizes.chosen * sizes.complex * (coordinates + 1), tall | sizes.wave),
        Share(pixels * (16.0 * coordinates + 100.0 + 60.0 * regions), pixel | many),
        Share(regions * coordinates**2 * 64.0, many),
    ]
    if field is not None:
        area = field[0] * field[1] * np.prod(settings.data.sampling)
        cells_of_field = (np.sqrt(area / np.prod(crystal.size_nm[:2])) + 4.0) ** 2
        points = cells_of_field * sizes.chosen
        seconds *= max(sweeps / 6.0, 0.2) if sweeps else 0.1
        whole = {"data.frame": (list(field), field[0] * field[1] / 65536.0)}
        shares += [
            # what a reverse pass keeps, and on each device a wave's way through and its derivative
            Share(points * sizes.complex * stack * (8.0 + 5.0 * devices.count()), whole | tall),
            Share(field[0] * field[1] * 200.0, whole),
            Share((regions * coordinates) ** 2 * 24.0, many),
        ]
    return Estimate(stage, seconds, tuple(shares))


def check_cell(crystal: Crystal, name: str | None) -> None:
    """Refuse a cell that holds too few atoms for its size: a mistaken unit.

    **Raises:** `InputError` that says so.
    """
    a, b, c = crystal.size_nm
    density = len(crystal.atoms.symbols) / (a * b * c)
    if max(a, b, c) > LONG_EDGE_NM and density < THIN_PER_NM3:
        raise InputError(
            f"specimen.structure: {name} has a cell of {a:g} x {b:g} x {c:g} nm with "
            f"{len(crystal.atoms.symbols)} atoms, {density:.2g} per nm^3, expected some 50 as in a "
            "solid: is the file in Angstrom?"
        )


class _Sizes:
    """Points of the grids that a specimen is computed on, chosen or foreseen."""

    def __init__(self, settings: Settings, crystal: Crystal, slices: int) -> None:
        self.settings, self.crystal = settings, crystal
        self.complex = 16.0 if settings.precision == "float64" else 8.0
        wanted = settings.specimen.grid
        self.auto = isinstance(wanted, str)
        size = crystal.size_nm[:2]
        fine = settings.specimen.grid_error < 1e-5
        reference = FINEST_NYQUIST if fine else REFERENCE_NYQUIST
        if isinstance(wanted, str):
            self.reference = _points(size, reference)
            self.chosen = _points(size, reference if fine else CHOSEN_NYQUIST)
        else:
            self.reference = self.chosen = float(wanted[0]) * float(wanted[1])
        self.image = min(self.chosen, _points(size, IMAGE_NYQUIST))
        self.foci = FOCI * (ANGLES if settings.microscope.coherence == "explicit" else 1)
        # the grids are chosen by a few vectors on the fine grid, with some tens of band limits
        searched = 6.0 * 15.0 * (slices + self.foci) * self.reference
        self.choice_s = searched * POINT_S
        ordinary = _points((0.6, 0.6), REFERENCE_NYQUIST)
        if self.auto:
            edges = f"a cell of {size[0]:g} x {size[1]:g} nm"
            self.wave = {
                "specimen.structure": (edges, self.reference / ordinary),
                "specimen.grid_error": (settings.specimen.grid_error, 17.0 if fine else 0.0),
            }
        else:
            self.wave = {"specimen.grid": (list(wanted), self.reference / ordinary)}

    def shares(self, option: str, slices: int) -> tuple[Share, Share]:
        """Memory of the waves behind all slices, whose number `option` sets, and of the slices."""
        tall = {option: (slices, slices / 50.0)}
        cut = self.crystal.slices
        own = {"specimen.slices": (cut, cut / 4.0)}
        lasting = (1.0 + _together()) * slices * self.chosen if not self.auto else 0.0
        choosing = 2.0 * slices * self.reference if self.auto else 0.0
        return (
            Share((lasting + choosing) * self.complex, tall | self.wave),
            # potentials are made in double precision on the host
            Share(self.crystal.slices * self.reference * 64.0, own | self.wave),
        )


def _together() -> int:
    """Images that the simulator computes together."""
    return 1 if jax.default_backend() == "cpu" else 32


def _points(size_nm: tuple[float, ...], nyquist: float) -> float:
    return float(np.prod([max(4.0, 2.0 * nyquist * length) for length in size_nm[:2]]))
