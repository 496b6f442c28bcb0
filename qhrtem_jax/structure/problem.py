"""What stage `structure` reads and checks."""

import dataclasses

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.columns import Specimen, load_specimen
from qhrtem_jax.inputs.handover import HandedImaging, handed_imaging
from qhrtem_jax.inputs.image import Experiment, load_experiment, of_several
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.prepared import wants_preparation
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.structure.settings import StructureSettings


@dataclasses.dataclass(frozen=True)
class StructureProblem:
    """Everything that was read and checked before the fit starts.

    `imaging`: the imaging parameters that were handed over; None where they are still to be found.
    """

    settings: StructureSettings
    reader: Reader
    space: ParameterSpace
    experiment: Experiment
    specimen: Specimen
    imaging: HandedImaging | None
    warnings: tuple[str, ...]


def check_one_cell(settings: StructureSettings, reader: Reader) -> None:
    """Refuse what candidates cannot be compared by: several means, of which `structure` sees one,
    or an image that is still to be cut into cells, which differ from one candidate to the next.

    **Raises:** `InputError` that says so.
    """
    if of_several(settings.data):
        raise InputError(
            f"data.average: found {len(settings.data.average or ())} means beside "
            "specimen.candidates, expected one"
        )
    if wants_preparation(settings, reader):
        raise InputError(
            "specimen.candidates: found an image that has to be prepared, expected the region of "
            "one cell (data.roi_shape, data.average), or data.prepared"
        )


def prepare(settings: StructureSettings, reader: Reader) -> StructureProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used.
    """
    space = parameter_space(settings, may_be_empty=True)
    experiment = load_experiment(settings.data, reader)
    specimen = load_specimen(settings, reader)
    columns = specimen.columns
    size.require(
        size.columns(
            settings,
            specimen.crystal,
            stage="structure",
            stack=space.thickness_range[1],
            shape=experiment.frame.shape,
            coordinates=2 * len(columns.xy) + len(columns.chains) + len(space.fitted.space),
        ),
        settings,
    )
    imaging = handed_imaging(settings)
    return StructureProblem(
        settings, reader, space, experiment, specimen, imaging, reader.warnings()
    )
