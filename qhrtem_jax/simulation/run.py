"""Stage `simulate`: images (and exit waves) of a table of parameter vectors."""

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.reporting.result import grid_sizes, header
from qhrtem_jax.simulation.problem import SimulationProblem
from qhrtem_jax.simulation.result import Intensity, SimulationResult


def run(problem: SimulationProblem, journal: Journal) -> SimulationResult:
    """Simulate; arrays: `image` (n, rows, cols), perhaps `exit_wave`.

    **Raises:** `NonFiniteError` if an image is not finite.
    """
    vectors = jnp.asarray(problem.vectors, problem.simulator.dtype)
    images = np.asarray(problem.simulator.images(vectors))
    bad = np.flatnonzero(~np.all(np.isfinite(images), axis=(1, 2)))
    if bad.size:
        raise NonFiniteError(f"the image of table row {bad[0] + 1} is not finite")
    arrays: dict[str, np.ndarray] = {"image": images.astype(np.float32)}
    if problem.wave_simulator is not None:
        waves = np.asarray(problem.wave_simulator.exit_waves(vectors))
        arrays["exit_wave"] = waves.astype(np.complex64)
    journal.count(evaluations=len(images))
    return SimulationResult(
        **header(problem.settings, problem.reader),
        warnings=problem.warnings,
        grid=grid_sizes(problem.choice),
        images=len(images),
        intensity=Intensity(float(np.mean(images)), float(np.min(images)), float(np.max(images))),
        cost=journal.cost(),
        arrays=arrays,
    )
