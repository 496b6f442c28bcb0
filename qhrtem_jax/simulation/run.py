"""Stage `simulate`: images, exit waves and diffraction patterns of a table of parameter vectors."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.large_arrays import forget, pieces
from qhrtem_jax.physics.frozen import FrozenSimulator
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.reporting.result import grid_sizes, header
from qhrtem_jax.simulation.problem import SimulationProblem
from qhrtem_jax.simulation.result import Diffraction, Intensity, Phonons, SimulationResult

MOST_ROWS, BLOCK_POINTS = 64, 2**22
"""Rows of the table that a device simulates one after the other before it is asked again: so many
at most, all devices having some, with fewer points of waves and images than this."""

PATTERNS = ("diffraction", "diffraction_elastic")

AnySimulator = Simulator | FrozenSimulator


def run(problem: SimulationProblem, journal: Journal) -> SimulationResult:
    """Simulate; arrays: `image` (n, rows, cols), with frozen phonons `image_error`; perhaps
    `exit_wave`, and `diffraction`, with frozen phonons `diffraction_elastic` (middle: no
    scattering).

    **Raises:** `NonFiniteError` if an image is not finite.
    """
    options, waves = problem.settings.simulate, problem.wave_simulator
    arrays = _stacks(problem, problem.simulator, block_images, "images", journal)
    images = arrays["image"]
    journal.count(evaluations=len(images))
    if waves is not None:
        left = () if options.save_diffraction else PATTERNS
        left = left if options.save_wave else (*left, "exit_wave")
        arrays |= _stacks(problem, waves, block_waves, "waves", journal, left)
    diffraction = None
    if waves is not None and options.save_diffraction:
        total = _mean_sum(arrays["diffraction"])
        elastic = arrays.get("diffraction_elastic")
        diffraction = Diffraction(
            _step(waves), total, total if elastic is None else _mean_sum(elastic)
        )
    return SimulationResult(
        **header(problem.settings, problem.reader),
        warnings=problem.warnings,
        grid=grid_sizes(problem.choice),
        images=len(images),
        intensity=_intensity(images),
        phonons=_phonons(problem, arrays.get("image_error")),
        diffraction=diffraction,
        cost=journal.cost(),
        arrays=arrays,
    )


def _intensity(images: np.ndarray) -> Intensity:
    sums, lows, highs = zip(
        *((np.sum(part, dtype=float), part.min(), part.max()) for _, part in pieces(images)),
        strict=True,
    )
    return Intensity(float(sum(sums)) / images.size, float(min(lows)), float(max(highs)))


def _phonons(problem: SimulationProblem, errors: np.ndarray | None) -> Phonons:
    model, simulator = problem.settings.specimen.phonons, problem.simulator
    if errors is None or isinstance(simulator, Simulator):
        return Phonons(model, None, None, None)
    squares = max(float(np.mean(np.square(p), axis=(1, 2)).max()) for _, p in pieces(errors))
    return Phonons(model, simulator.configurations, simulator.tiles, math.sqrt(squares))


def _mean_sum(patterns: np.ndarray) -> float:
    return sum(float(np.sum(part, dtype=float)) for _, part in pieces(patterns)) / len(patterns)


def _step(simulator: AnySimulator) -> tuple[float, float]:
    """Frequencies from one pixel of a pattern to the next, 1/nm, (y, x)."""
    way = simulator.propagation
    return float(way.w_y[1] / way.wavelength_nm), float(way.w_x[1] / way.wavelength_nm)


def block_images(
    simulator: AnySimulator, vectors: Float[Array, "rows parameters"]
) -> dict[str, Float[Array, "rows pixel_rows pixel_cols"]]:
    """Images of some rows of the table, on one device."""
    if isinstance(simulator, Simulator):
        return {"image": jax.lax.map(simulator.image, vectors, batch_size=simulator.batch)}
    both = jax.lax.map(simulator.image_and_error, vectors)
    return {"image": both[:, 0], "image_error": both[:, 1]}


def block_waves(
    simulator: AnySimulator, vectors: Float[Array, "rows parameters"]
) -> dict[str, Inexact[Array, "rows grid_rows grid_cols"]]:
    """Exit waves and diffraction patterns of some rows of the table, on one device."""
    batch = simulator.batch if isinstance(simulator, Simulator) else 1
    waves, patterns = jax.lax.map(simulator.wave_and_patterns, vectors, batch_size=batch)
    kinds = jnp.moveaxis(jnp.fft.fftshift(patterns, axes=(2, 3)), 1, 0)
    return {"exit_wave": waves, **dict(zip(PATTERNS, kinds, strict=False))}


def _stacks(
    problem: SimulationProblem,
    simulator: AnySimulator,
    function: Callable[..., dict[str, Array]],
    unit: str,
    journal: Journal,
    left_out: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """What `function` makes of all rows of the table, but for what is `left_out`; the memory holds
    a few blocks of them."""
    count, engine = len(problem.vectors), journal.engine
    points = max(math.prod(simulator.formation.camera.pixels), math.prod(problem.choice.grid))
    if isinstance(simulator, FrozenSimulator):
        points *= math.prod(simulator.tiles) * simulator.configurations
    rows = max(1, min(MOST_ROWS, -(-count // engine.width), BLOCK_POINTS // points))
    blocks = -(-count // rows)
    every = np.minimum(np.arange(blocks * rows), count - 1).reshape(blocks, rows)
    vectors = problem.vectors[every].astype(simulator.dtype)
    tick, done, stacks = journal.tick(unit, unit), 0, dict[str, np.ndarray]()
    for here, parts in engine.parts(function, (simulator,), (vectors,), 1):
        first = here.start * rows
        last = min(here.stop * rows, count)
        for name, part in parts.items():
            if name in left_out:
                continue
            found = np.asarray(part)
            found = found.reshape(-1, *found.shape[2:])[: last - first]
            if name not in stacks:
                kind = np.complex64 if np.iscomplexobj(found) else np.float32
                stacks[name] = journal.folder.room(name, (count, *found.shape[1:]), kind)
            bad = np.flatnonzero(~np.all(np.isfinite(found), axis=(1, 2)))
            if bad.size:
                raise NonFiniteError(f"the image of table row {first + bad[0] + 1} is not finite")
            stacks[name][first:last] = found
            forget(stacks[name])
        done += last - first
        tick(done, count)
    return stacks
