"""Imaging parameters for the stages that need them: handed over, or found first."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qhrtem_jax.imaging import fit as imaging
from qhrtem_jax.imaging.search import Progress
from qhrtem_jax.inputs import problem
from qhrtem_jax.inputs.handover import imaging_vector, read_result
from qhrtem_jax.inputs.settings import DataSettings, RunSettings
from qhrtem_jax.io.run_folder import RunFolder

FOLDER = "imaging"


@dataclasses.dataclass(frozen=True)
class ImagingSource:
    """Where a stage's imaging parameters come from: `known`, or the problem to solve first."""

    settings: RunSettings
    known: np.ndarray | None
    problem: imaging.ImagingProblem | None
    warnings: list[str]

    def vector(self, folder: RunFolder, report: Callable[[Progress], None]) -> np.ndarray:
        """The parameters; where nothing was handed over, the imaging stage runs first, in the
        folder `imaging` of the run (and is not repeated when the run is resumed)."""
        if self.known is not None:
            return self.known.copy()
        assert self.problem is not None
        sub = folder.sub(FOLDER)
        if sub.prepare(self.problem.fingerprint, self.settings.resume, not self.settings.resume):
            result, arrays = imaging.run(self.problem, sub, report)
            sub.write_arrays(arrays)
            sub.write_result(result)
            sub.remove_checkpoint()
        return imaging_vector(self.settings, read_result(sub.path, FOLDER), FOLDER)


def averaged_data(data: DataSettings) -> DataSettings:
    """Data of a mean of regions, from data of a field: which regions (`auto` where none are named),
    and the noise, which is given for a pixel of the field, of their mean."""
    if data.average is None and data.roi_shape is not None:
        data = dataclasses.replace(data, average="auto")
    field = problem.load_field(data, lambda text: None)
    groups = problem.averages(data, field.image, field.noise)
    if not groups:
        return data
    variance = data.noise_variance
    return dataclasses.replace(
        data,
        average=groups[0] if len(groups) == 1 else tuple(groups),
        noise_variance=None if variance is None else variance / len(groups[0]),
    )


def prepare_imaging(settings: RunSettings) -> ImagingSource:
    """Read what `imaging.result` hands over, or prepare the search for it.

    **Raises:** `InputError` for input that cannot be used.
    """
    path = settings.imaging.result
    if path is not None:
        content = read_result(Path(path), "imaging.result")
        return ImagingSource(settings, imaging_vector(settings, content, path), None, [])
    data = settings.data
    if settings.stage in ("reconstruct", "stitch"):
        data = averaged_data(data)
    alone = dataclasses.replace(settings, stage="imaging", data=data)
    return ImagingSource(
        settings,
        None,
        imaging.prepare(alone),
        ["no imaging.result given: the imaging stage ran first, see the folder imaging"],
    )
