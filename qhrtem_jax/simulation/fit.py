"""Stage `simulate`: images (and exit waves) of a table of parameter vectors."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.errors import InputError, NonFiniteError
from qhrtem_jax.inputs import problem, size
from qhrtem_jax.inputs.parameter_space import default_values
from qhrtem_jax.inputs.plausible import implausible
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.cost import Stopwatch
from qhrtem_jax.io.image_size import MOST_PIXELS
from qhrtem_jax.io.tables import read_table
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.reporting.result import header


@dataclasses.dataclass(frozen=True)
class SimulateProblem:
    """Everything that was read and checked before anything is computed."""

    settings: RunSettings
    vectors: np.ndarray  # (n, parameters)
    simulator: Simulator
    wave_simulator: Simulator | None
    grid: dict[str, Any]
    warnings: list[str]
    stopwatch: Stopwatch
    fingerprint: str


def prepare(settings: RunSettings) -> SimulateProblem:
    """Read and check the table, the specimen and the frame.

    **Raises:** `InputError` for input that cannot be used.
    """
    stopwatch = Stopwatch()
    warnings: list[str] = []
    vectors = _vectors(settings)
    data = settings.data
    shape = data.roi_shape or data.shape
    if shape is None:
        raise InputError("data.roi_shape: none given, expected [rows,cols] of the images")
    if math.prod(shape) > MOST_PIXELS:
        raise InputError(
            f"data.roi_shape: found {list(shape)}, expected at most {MOST_PIXELS} pixels"
        )
    frame = Frame(shape, data.sampling)
    crystal = problem.load_crystal(settings)
    microscope = problem.load_microscope(settings, warnings.append)
    slices = int(np.max(vectors[:, INDEX["thickness"]]))
    size.require(size.simulate(settings, crystal, len(vectors), slices, shape), settings)
    sample = _extremes(vectors)
    choice = problem.choose_grid(
        settings, crystal, microscope, frame, sample, slices, reduce_image=False
    )
    simulator = problem.build_simulator(settings, crystal, microscope, frame, choice, slices)
    waves = None
    if settings.simulate.save_wave:
        whole = dataclasses.replace(choice, image=choice.grid)
        waves = problem.build_simulator(settings, crystal, microscope, frame, whole, slices)
    grid = problem.describe_grid(choice)
    fingerprint = problem.fingerprint(settings)
    return SimulateProblem(
        settings, vectors, simulator, waves, grid, warnings, stopwatch, fingerprint
    )


def run(task: SimulateProblem) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Simulate, and return (result, arrays): `image` (n, rows, cols), perhaps `exit_wave`.

    **Raises:** `NonFiniteError` if an image is not finite.
    """
    vectors = jnp.asarray(task.vectors, task.simulator.dtype)
    images = np.asarray(task.simulator.images(vectors))
    bad = np.flatnonzero(~np.all(np.isfinite(images), axis=(1, 2)))
    if bad.size:
        raise NonFiniteError(f"the image of table row {bad[0] + 1} is not finite")
    arrays: dict[str, np.ndarray] = {"image": images.astype(np.float32)}
    if task.wave_simulator is not None:
        waves = np.asarray(task.wave_simulator.exit_waves(vectors))
        arrays["exit_wave"] = waves.astype(np.complex64)
    result = header(task.settings) | {
        "warnings": task.warnings,
        "grid": task.grid,
        "images": len(images),
        "intensity": {
            "mean": float(np.mean(images)),
            "min": float(np.min(images)),
            "max": float(np.max(images)),
        },
        "cost": {
            "evaluations": len(images),
            "gradient_evaluations": 0,
            "wall_s": task.stopwatch.wall_s,
            "compile_s": task.stopwatch.compile_s,
        },
    }
    return result, arrays


def _vectors(settings: RunSettings) -> np.ndarray:
    """Parameter vectors of the table; columns that it lacks take the configuration's values."""
    defaults = default_values(settings)
    name = settings.simulate.table
    columns, rows = ([], np.zeros((1, 0))) if name is None else read_table(Path(name))
    vectors = np.tile(defaults, (len(rows), 1))
    vectors[:, [INDEX[column] for column in columns]] = rows
    for number, vector in enumerate(vectors, start=1):
        wrong = implausible(vector)
        if wrong is not None:
            where = "parameters" if name is None else f"simulate.table: {name} row {number}"
            raise InputError(f"{where}: {wrong}")
    return vectors


def _extremes(vectors: np.ndarray) -> np.ndarray:
    """The rows that ask most of a grid: smallest and largest of every column that varies."""
    rows = {0}
    for column in np.flatnonzero(np.ptp(vectors, axis=0)):
        rows |= {int(np.argmin(vectors[:, column])), int(np.argmax(vectors[:, column]))}
    return vectors[sorted(rows)]
