"""Stage `simulate`: images (and exit waves) of a table of parameter vectors."""

import math
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Inexact

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.large_arrays import forget, pieces
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.reporting.result import grid_sizes, header
from qhrtem_jax.simulation.problem import SimulationProblem
from qhrtem_jax.simulation.result import Intensity, SimulationResult

MOST_ROWS, BLOCK_POINTS = 64, 2**22
"""Rows of the table that a device simulates one after the other before it is asked again: so many
at most, all devices having some, with fewer points of waves and images than this."""


def run(problem: SimulationProblem, journal: Journal) -> SimulationResult:
    """Simulate; arrays: `image` (n, rows, cols), perhaps `exit_wave`.

    **Raises:** `NonFiniteError` if an image is not finite.
    """
    images = _stack(problem, problem.simulator, block_images, "image", np.float32, journal)
    journal.count(evaluations=len(images))
    arrays: dict[str, np.ndarray] = {"image": images}
    if problem.wave_simulator is not None:
        arrays["exit_wave"] = _stack(
            problem, problem.wave_simulator, block_waves, "exit_wave", np.complex64, journal
        )
    return SimulationResult(
        **header(problem.settings, problem.reader),
        warnings=problem.warnings,
        grid=grid_sizes(problem.choice),
        images=len(images),
        intensity=_intensity(images),
        cost=journal.cost(),
        arrays=arrays,
    )


def _intensity(images: np.ndarray) -> Intensity:
    sums, lows, highs = zip(
        *((np.sum(part, dtype=float), part.min(), part.max()) for _, part in pieces(images)),
        strict=True,
    )
    return Intensity(float(sum(sums)) / images.size, float(min(lows)), float(max(highs)))


def block_images(
    simulator: Simulator, vectors: Float[Array, "rows parameters"]
) -> Float[Array, "rows pixel_rows pixel_cols"]:
    """Images of some rows of the table, on one device."""
    return jax.lax.map(simulator.image, vectors, batch_size=simulator.batch)


def block_waves(
    simulator: Simulator, vectors: Float[Array, "rows parameters"]
) -> Inexact[Array, "rows grid_rows grid_cols"]:
    """Exit waves of some rows of the table, on one device."""
    return jax.lax.map(simulator.exit_wave, vectors, batch_size=simulator.batch)


def _stack(
    problem: SimulationProblem,
    simulator: Simulator,
    function: Callable[..., Array],
    name: str,
    dtype: type[np.generic],
    journal: Journal,
) -> np.ndarray:
    """What `function` makes of all rows of the table; the memory holds a few blocks of them."""
    count, engine = len(problem.vectors), journal.engine
    points = max(math.prod(simulator.formation.camera.pixels), math.prod(problem.choice.grid))
    rows = max(1, min(MOST_ROWS, -(-count // engine.width), BLOCK_POINTS // points))
    blocks = -(-count // rows)
    every = np.minimum(np.arange(blocks * rows), count - 1).reshape(blocks, rows)
    vectors = problem.vectors[every].astype(simulator.dtype)
    tick, done, stack = journal.tick(name.replace("_", " "), "images"), 0, None
    for here, part in engine.parts(function, (simulator,), (vectors,), 1):
        found = np.asarray(part)
        found = found.reshape(-1, *found.shape[2:])
        if stack is None:
            stack = journal.folder.room(name, (count, *found.shape[1:]), dtype)
        first = here.start * rows
        last = min(here.stop * rows, count)
        bad = np.flatnonzero(~np.all(np.isfinite(found[: last - first]), axis=(1, 2)))
        if bad.size:
            raise NonFiniteError(f"the image of table row {first + bad[0] + 1} is not finite")
        stack[first:last] = found[: last - first]
        forget(stack)
        done += last - first
        tick(done, count)
    assert stack is not None
    return stack
