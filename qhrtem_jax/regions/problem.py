"""What the count of the regions works on: everything that was read and checked."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inline_imaging import ImagingSource, prepare_imaging
from qhrtem_jax.inputs import problem, size
from qhrtem_jax.inputs.columns import Specimen, load_specimen
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.rois import Region, find_regions
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Sites, sites_of
from qhrtem_jax.physics.structured import Layout


@dataclasses.dataclass(frozen=True)
class ReconstructProblem:
    """Everything that was read and checked before counting starts."""

    settings: RunSettings
    space: ParameterSpace
    field: problem.Experiment
    regions: tuple[Region, ...]
    specimen: Specimen
    sites: Sites
    imaging: ImagingSource
    averaged: problem.Origins  # regions that the imaging parameters come from; empty: not known
    warnings: list[str]
    fingerprint: str

    @property
    def layout(self) -> Layout:
        return Layout(len(self.specimen.columns.xy), len(self.specimen.columns.chains))

    @property
    def frame(self) -> Frame:
        """Pixels of one region."""
        rows, cols = self.regions[0].image.shape
        return Frame((rows, cols), self.field.frame.sampling_nm)

    @property
    def targets(self) -> Float[np.ndarray, "regions rows cols"]:
        """Images of the regions."""
        return np.array([region.image for region in self.regions], dtype=float)


def prepare(settings: RunSettings) -> ReconstructProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used.
    """
    warnings: list[str] = []
    space = parameter_space(settings, may_be_empty=True)
    field = problem.load_field(settings.data, warnings.append)
    specimen = load_specimen(settings, warnings.append)
    regions = find_regions(settings.data, field.image, field.noise)
    columns = specimen.columns
    rows, cols = regions[0].image.shape
    size.require(
        size.columns(
            settings,
            specimen.crystal,
            stage="stitch" if settings.stage == "stitch" else "reconstruct",
            stack=settings.specimen.max_cells * columns.slices,
            shape=(rows, cols),
            coordinates=2 * len(columns.xy) + len(columns.chains) + 4,
            regions=len(regions),
            field=field.frame.shape if settings.stage == "stitch" else None,
        ),
        settings,
    )
    sites = sites_of(specimen.columns, settings.specimen.max_cells, settings.specimen.fill)
    imaging = prepare_imaging(settings)
    data = settings.data if imaging.problem is None else imaging.problem.settings.data
    groups = problem.averages(data, field.image, field.noise)
    return ReconstructProblem(
        settings,
        space,
        field,
        regions,
        specimen,
        sites,
        imaging,
        groups[0] if groups else (),
        warnings,
        problem.fingerprint(settings),
    )
