"""What stage `imaging` reads and checks."""

import dataclasses

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.image import Experiment, load_experiment
from qhrtem_jax.inputs.instrument import (
    build_simulator,
    choose_grid,
    load_microscope,
    spanning_vectors,
)
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.plausible import strange_region
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.matching.criteria import CRITERIA
from qhrtem_jax.matching.criteria.similarity import WINDOW
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.physics.specimen import Crystal


@dataclasses.dataclass(frozen=True)
class ImagingProblem:
    """Everything that was read and checked before the search starts."""

    settings: Settings
    reader: Reader
    space: ParameterSpace
    experiment: Experiment
    crystal: Crystal
    microscope: Microscope
    warnings: tuple[str, ...]

    def simulator(self) -> tuple[Simulator, GridChoice]:
        """The simulator of all thicknesses, on the grids that it needs."""
        slices, frame = self.space.thickness_range[1], self.experiment.frame
        vectors = spanning_vectors(self.space, seed=0)
        choice = choose_grid(self.settings, self.crystal, self.microscope, frame, vectors, slices)
        simulator = build_simulator(
            self.settings, self.crystal, self.microscope, frame, choice, slices
        )
        return simulator, choice


def prepare(settings: Settings, reader: Reader) -> ImagingProblem:
    """Read and check all input; no search starts before this has passed.

    **Raises:** `InputError` for input that cannot be used.
    """
    space = parameter_space(settings)
    experiment = load_experiment(settings.data, reader)
    _check_criterion(settings, experiment)
    crystal = load_crystal(settings, reader)
    microscope = load_microscope(settings, reader)
    strange = strange_region(experiment.frame, crystal.size_nm)
    if strange is not None and settings.data.frame is None:
        reader.warn(strange)
    size.require(size.imaging(settings, crystal, space, experiment.frame.shape), settings)
    return ImagingProblem(
        settings, reader, space, experiment, crystal, microscope, reader.warnings()
    )


def _check_criterion(settings: Settings, experiment: Experiment) -> None:
    criterion = settings.objective.criterion
    if criterion != "mse" and experiment.others:
        raise InputError(
            f"data.average: found {1 + len(experiment.others)} means, which are fitted together by "
            f"least squares, expected one with objective.criterion={criterion}"
        )
    if CRITERIA[criterion].needs_noise and experiment.noise is None:
        raise InputError(
            f"objective.criterion: found {criterion} and no noise to weigh pixels by, expected "
            "data.vacuum or data.noise_variance with it"
        )
    if criterion == "ssim" and min(experiment.image.shape) < WINDOW:
        raise InputError(
            f"objective.criterion: found ssim for an image of {list(experiment.image.shape)}, "
            f"expected at least {WINDOW} pixels a side, its window"
        )
