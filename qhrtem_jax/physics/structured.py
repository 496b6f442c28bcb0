"""Images of a stack of columns whose structure varies with the imaging parameters.

A point is one flat vector: the imaging parameters of `physics.parameters`, then the shifts of the
columns in nm (x and y of each), the numbers of atoms of the chains, their occupancies, and the
relative stretch of the MTF's frequencies along y and x (see `physics.camera`).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Float64, Num

from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.columns import ColumnPotential, Columns, Sites, make_potential
from qhrtem_jax.physics.image_formation import ImageFormation, make_instrument
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import Propagation
from qhrtem_jax.physics.parameters import INDEX, NAMES, ImagingParameters


class Layout(eqx.Module):
    """Where things are in a point."""

    columns: int = eqx.field(static=True)
    chains: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        return len(NAMES) + 2 * self.columns + 2 * self.chains + 2

    @property
    def imaging(self) -> slice:
        return slice(0, len(NAMES))

    @property
    def shifts(self) -> slice:
        return slice(len(NAMES), len(NAMES) + 2 * self.columns)

    @property
    def counts(self) -> slice:
        return slice(self.shifts.stop, self.shifts.stop + self.chains)

    @property
    def occupancies(self) -> slice:
        return slice(self.counts.stop, self.counts.stop + self.chains)

    @property
    def mtf_stretch(self) -> slice:
        return slice(self.occupancies.stop, self.occupancies.stop + 2)

    def point(
        self,
        imaging: Float[np.ndarray, " parameters"],
        shifts_nm: Float[np.ndarray, "columns 2"],
        counts: Num[np.ndarray, " chains"],
        occupancies: Float[np.ndarray, " chains"],
    ) -> Float64[np.ndarray, " point"]:
        """One flat vector, the MTF as it is given."""
        parts = [imaging, np.ravel(shifts_nm), counts, occupancies, np.zeros(2)]
        return np.concatenate(parts).astype(float)


def moved_plane(
    imaging: Float[np.ndarray, "*batch parameters"],
    distance_nm: Float[np.ndarray, "*batch"] | float,
) -> Float[np.ndarray, "*batch parameters"]:
    """Imaging parameters that give the same image when the wave is taken `distance_nm` further
    behind the specimen: less C1, and the shift that the tilt adds."""
    moved = np.array(imaging, dtype=float)
    moved[..., INDEX["C1"]] -= distance_nm
    for axis in ("x", "y"):
        moved[..., INDEX[f"A0_{axis}"]] += 1e-3 * moved[..., INDEX[f"tilt_{axis}"]] * distance_nm
    return moved


class StructuredSimulator(eqx.Module):
    """Images of points. The wave passes the whole stack, so `C1` and `A0` refer to its far end
    whatever the numbers of atoms (`moved_plane` converts to another plane)."""

    propagation: Propagation
    formation: ImageFormation
    potential: ColumnPotential
    layout: Layout
    batch: int = eqx.field(static=True)

    @property
    def dtype(self) -> jnp.dtype:
        return self.formation.dtype

    def typed(self, point: Float[Array, " point"]) -> ImagingParameters:
        """Typed imaging parameters of a point."""
        return self.formation.typed(point[self.layout.imaging], point[self.layout.mtf_stretch])

    def wave(self, point: Float[Array, " point"]) -> Complex[Array, "image_rows image_cols"]:
        """Fourier coefficients, on the image grid, of the wave behind the stack."""
        layout, parameters = self.layout, self.typed(point)
        shifts = point[layout.shifts].reshape(layout.columns, 2)
        occupancy = self.potential.occupancy(point[layout.counts], point[layout.occupancies])
        phases = self.potential.phases(shifts, occupancy, parameters.absorption)
        return self.propagation.through(phases, parameters.tilt_rad)

    def image_of_wave(
        self, wave: Complex[Array, "image_rows image_cols"], point: Float[Array, " point"]
    ) -> Float[Array, "rows cols"]:
        """Image of a wave under the imaging parameters of `point`."""
        return self.formation(wave, self.typed(point).formation)

    def image(self, point: Float[Array, " point"]) -> Float[Array, "rows cols"]:
        """The image of one point; vacuum 1."""
        return self.image_of_wave(self.wave(point), point)


def make_structured(
    columns: Columns,
    sites: Sites,
    microscope: Microscope,
    frame: Frame,
    *,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, int],
    scattering: str = "weickenmeier_kohl",
    thermal_absorption: bool = False,
    precision: str = "float32",
    source: SourceSampling | None = None,
    batch: int = 1,
) -> StructuredSimulator:
    """Simulator of a periodic cell of columns; arguments as those of `make_simulator`."""
    grid = columns.grid(grid_shape)
    propagation, formation = make_instrument(
        microscope, grid, image_shape, columns.slice_nm, frame, precision, source
    )
    model = microscope.potential_model(scattering, thermal_absorption)
    potential = make_potential(columns, sites, model, grid, formation.dtype)
    layout = Layout(len(columns.xy), len(columns.chains))
    return StructuredSimulator(propagation, formation, potential, layout, batch)
