"""What stage `reconstruct` reads and checks."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs import size
from qhrtem_jax.inputs.columns import Specimen, load_specimen
from qhrtem_jax.inputs.handover import HandedImaging, handed_imaging
from qhrtem_jax.inputs.image import Experiment, Origins, averages, load_field
from qhrtem_jax.inputs.parameter_space import ParameterSpace, parameter_space
from qhrtem_jax.inputs.plausible import strange_region
from qhrtem_jax.inputs.prepared import corners_of
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.rois import Region, find_regions
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Sites, sites_of
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.regions.settings import RegionsSettings


@dataclasses.dataclass(frozen=True)
class RegionsProblem:
    """Everything that was read and checked before counting starts."""

    settings: RegionsSettings
    reader: Reader
    space: ParameterSpace
    field: Experiment
    regions: tuple[Region, ...]
    specimen: Specimen
    sites: Sites
    imaging: HandedImaging | None  # what was handed over; None: still to be found
    averaged: Origins  # regions that the imaging parameters come from; empty: not known
    warnings: tuple[str, ...]

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


def prepare(settings: RegionsSettings, reader: Reader, sweeps: int | None = None) -> RegionsProblem:
    """Read and check all input; `sweeps` of the joint refinement that is to follow, if one is.

    **Raises:** `InputError` for input that cannot be used.
    """
    space = parameter_space(settings, may_be_empty=True)
    field = load_field(settings.data, reader)
    specimen = load_specimen(settings, reader)
    regions = find_regions(settings.data, field.image, field.noise)
    corners = corners_of(settings.data, [region.origin for region in regions], reader)
    regions = tuple(
        dataclasses.replace(region, corners_px=known)
        for region, known in zip(regions, corners, strict=True)
    )
    columns = specimen.columns
    rows, cols = regions[0].image.shape
    strange = strange_region(Frame((rows, cols), field.frame.sampling_nm), columns.size_nm)
    if strange is not None:
        reader.warn(strange)
    size.require(
        size.columns(
            settings,
            specimen.crystal,
            stage="reconstruct" if sweeps is None else "stitch",
            stack=settings.specimen.max_cells * columns.slices,
            shape=(rows, cols),
            coordinates=2 * len(columns.xy) + len(columns.chains) + 4,
            regions=len(regions),
            field=None if sweeps is None else field.frame.shape,
            sweeps=sweeps or 0,
        ),
        settings,
    )
    sites = sites_of(specimen.columns, settings.specimen.max_cells, settings.specimen.fill)
    groups = averages(settings.data, field, reader)
    return RegionsProblem(
        settings,
        reader,
        space,
        field,
        regions,
        specimen,
        sites,
        handed_imaging(settings),
        groups[0] if groups else (),
        reader.warnings(),
    )
