"""What the structure stages share: simulator of columns, bounds of points."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.crystal import load_crystal
from qhrtem_jax.inputs.instrument import choose_grid, load_microscope, simulated_as
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Columns, Sites, columns_of
from qhrtem_jax.physics.disordered_layer import DisorderedLayers, make_layers
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.specimen import Crystal
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, make_structured
from qhrtem_jax.refine.bounds import PointBounds, point_bounds
from qhrtem_jax.refine.regions import regions_at_once

GRID_ERROR_FACTOR = 4.0
"""Structure is fitted at so many times `specimen.grid_error`, still far below the noise, since its
Jacobians are many."""

GPU_BUDGET_BYTES = 4e9


@dataclasses.dataclass(frozen=True)
class Specimen:
    """The columns of the crystal, and the instrument that images them."""

    crystal: Crystal
    columns: Columns
    microscope: Microscope
    settings: Settings

    @property
    def mtf_scale_std(self) -> float:
        """Relative error of the scale of the MTF's frequencies; 0 where there is no MTF."""
        return 0.0 if self.microscope.mtf is None else self.settings.data.mtf_scale_std

    def grids(
        self, frame: Frame, vector: Float[np.ndarray, " parameters"], slices: int
    ) -> GridChoice:
        """Grids for points near the imaging parameters `vector`."""
        specimen = self.settings.specimen
        coarser = dataclasses.replace(specimen, grid_error=specimen.grid_error * GRID_ERROR_FACTOR)
        settings = dataclasses.replace(self.settings, specimen=coarser)
        vectors = np.tile(vector, (3, 1))
        vectors[:, INDEX["thickness"]] = [max(slices // 3, 1), max(2 * slices // 3, 1), slices]
        return choose_grid(settings, self.crystal, self.microscope, frame, vectors, slices)

    def layers(self, frame: Frame, choice: GridChoice) -> DisorderedLayers:
        """Disordered layers of the crystal's kinds on one region."""
        return make_layers(
            self.columns,
            self.microscope,
            frame,
            thermal_absorption=self.settings.specimen.thermal_absorption,
            **simulated_as(self.settings, choice),
        )

    def simulator(
        self, sites: Sites, frame: Frame, choice: GridChoice, coordinates: int
    ) -> StructuredSimulator:
        """Simulator of one region; `coordinates`, about how many will be free."""

        def build(batch: int) -> StructuredSimulator:
            return make_structured(
                self.columns,
                sites,
                self.microscope,
                frame,
                thermal_absorption=self.settings.specimen.thermal_absorption,
                batch=batch,
                **simulated_as(self.settings, choice),
            )

        alone = build(1)
        # a CPU works best on one region at a time (its cache), a GPU on as many as it holds
        if jax.default_backend() == "cpu":
            return alone
        return build(min(64, regions_at_once(alone, coordinates, GPU_BUDGET_BYTES)))


def load_specimen(settings: Settings, reader: Reader) -> Specimen:
    """Read the crystal and the instrument.

    **Raises:** `InputError` for files that cannot be used.
    """
    crystal = load_crystal(settings, reader)
    return specimen_of(crystal, load_microscope(settings, reader), settings)


def specimen_of(crystal: Crystal, microscope: Microscope, settings: Settings) -> Specimen:
    """The columns of a crystal that was read.

    **Raises:** `InputError` for one whose atoms do not stand in columns.
    """
    with named("specimen.structure"):
        columns = columns_of(crystal)
    return Specimen(crystal, columns, microscope, settings)


def bounds_of(layout: Layout, space: ParameterSpace) -> PointBounds:
    """Bounds and priors of the free imaging parameters of `space`."""
    bounds = point_bounds(layout)
    for variable in space.fitted.space.variables:
        if variable.name == "thickness":
            continue
        mean, std = variable.prior_mean, variable.prior_std
        prior = (0.0, np.inf) if mean is None or std is None else (mean, std)
        bounds = bounds.with_imaging(variable.name, variable.low, variable.high, *prior)
    return bounds
