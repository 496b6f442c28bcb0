"""What stage `simulate` reads and checks."""

import dataclasses
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.instrument import (
    build_simulator,
    choose_grid,
    load_microscope,
)
from qhrtem_jax.inputs.parameter_space import default_values
from qhrtem_jax.inputs.phonons import build_frozen, load_vibrations
from qhrtem_jax.inputs.plausible import implausible
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.image_size import MOST_PIXELS
from qhrtem_jax.io.tables import read_table
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.frozen import FrozenSimulator
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.simulation.settings import SimulationSettings


@dataclasses.dataclass(frozen=True)
class SimulationProblem:
    """Everything that was read and checked before anything is computed."""

    settings: SimulationSettings
    reader: Reader
    vectors: Float[np.ndarray, "n parameters"]
    simulator: Simulator | FrozenSimulator
    wave_simulator: Simulator | FrozenSimulator | None
    choice: GridChoice
    warnings: tuple[str, ...]


def prepare(settings: SimulationSettings, reader: Reader) -> SimulationProblem:
    """Read and check the table, the specimen and the frame.

    **Raises:** `InputError` for input that cannot be used.
    """
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
    crystal = load_crystal(settings, reader)
    microscope = load_microscope(settings, reader)
    slices = int(np.max(vectors[:, INDEX["thickness"]]))
    options = settings.simulate
    vibrations = load_vibrations(settings, crystal, reader)
    size.require(
        size.simulate(
            settings,
            crystal,
            len(vectors),
            slices,
            shape,
            thick="simulate.table" if options.table else "parameters.thickness.value",
            waves=options.save_wave + options.save_diffraction,
            tiles=(1, 1) if vibrations is None else vibrations.tiles,
        ),
        settings,
    )
    sample = _extremes(vectors)
    choice = choose_grid(settings, crystal, microscope, frame, sample, slices, reduce_image=False)

    def build(choice: GridChoice) -> Simulator | FrozenSimulator:
        known = settings, crystal, microscope, frame, choice, slices
        return build_simulator(*known) if vibrations is None else build_frozen(*known, vibrations)

    waves = None
    if options.save_wave or options.save_diffraction:
        waves = build(dataclasses.replace(choice, image=choice.grid))
    simulator = build(choice)
    return SimulationProblem(settings, reader, vectors, simulator, waves, choice, reader.warnings())


def _vectors(settings: SimulationSettings) -> np.ndarray:
    """Parameter vectors of the table; columns that it lacks take the configuration's values."""
    defaults = default_values(settings)
    name = settings.simulate.table
    columns, rows = (
        ([], np.zeros((1, 0))) if name is None else read_table(Path(name), "simulate.table")
    )
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
