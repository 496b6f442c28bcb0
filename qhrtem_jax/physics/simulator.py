"""The simulator: parameter vectors in, images out, whole batches in one device call."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Inexact, Int

from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics import devices
from qhrtem_jax.numerics.devices import filled_up, over_devices
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.image_formation import ImageFormation, make_instrument
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import Propagation
from qhrtem_jax.physics.parameters import INDEX, ImagingParameters
from qhrtem_jax.physics.specimen import Crystal, slice_phases

VACUUM = -1
"""In a sequence of slices: nothing, over the thickness of one slice."""


class Simulator(eqx.Module):
    """Images of one stack of slices under varying imaging parameters.

    Parameter vectors follow `physics.parameters.PARAMETERS`, with aberrations in the microscope's
    convention. Every method is a pure function of its arguments, differentiable in every continuous
    parameter, and meant to run under `jit` and `vmap`; `images` does both.
    """

    phases: Inexact[Array, "unique rows cols"]  # phase shift of each distinct slice, rad
    sequence: Int[Array, " slices"]  # which of them each slice uses
    propagation: Propagation
    formation: ImageFormation
    batch: int = eqx.field(static=True)

    @property
    def slices(self) -> int:
        """Number of slices that the beam crosses."""
        return self.sequence.shape[0]

    @property
    def dtype(self) -> jnp.dtype:
        return self.formation.dtype

    def typed(self, vector: Float[Array, " parameters"]) -> ImagingParameters:
        """Typed parameters of a vector in the microscope's convention."""
        return self.formation.typed(vector)

    def waves(
        self, parameters: ImagingParameters
    ) -> Complex[Array, "slices image_rows image_cols"]:
        """Fourier coefficients, on the image grid, of the wave behind every slice."""
        phases = self.phases * (1.0 + 1j * parameters.absorption)
        return self.propagation.behind_slices(phases, self.sequence, parameters.tilt_rad)

    def wave_at_thickness(
        self, waves: Complex[Array, "slices *image"], thickness: Float[Array, ""]
    ) -> Complex[Array, "*image"]:
        """The wave behind slice round(thickness); NaN where there is no such slice."""
        number = jnp.round(thickness)
        inside = (number >= 1) & (number <= self.slices)
        wave = waves[jnp.clip(number.astype(jnp.int32), 1, self.slices) - 1]
        return jnp.where(inside, wave, jnp.nan)

    def image(self, vector: Float[Array, " parameters"]) -> Float[Array, "pixel_rows pixel_cols"]:
        """The image of one parameter vector; vacuum intensity 1.

        **Raises:** `InputError` for a thickness beyond the slices; where values are traced (under
        `jit`, `vmap`), such an image is NaN.
        """
        self._check_thickness(vector)
        parameters = self.typed(vector)
        wave = self.wave_at_thickness(self.waves(parameters), parameters.thickness)
        return self.formation(wave, parameters.formation)

    def images(
        self, vectors: Float[Array | np.ndarray, "batch parameters"]
    ) -> Float[Array, "batch pixel_rows pixel_cols"]:
        """Images of a batch, `self.batch` at a time on each device (the rest of the memory stays
        free).

        **Raises:** `InputError` as `image` does.
        """
        self._check_thickness(vectors)
        return self._images(vectors)

    def exit_wave(self, vector: Float[Array, " parameters"]) -> Complex[Array, "rows cols"]:
        """The exit wave in real space on the image grid, vacuum amplitude 1.

        **Raises:** `InputError` as `image` does.
        """
        return self.wave_and_patterns(vector)[0]

    def wave_and_patterns(
        self, vector: Float[Array, " parameters"]
    ) -> tuple[Complex[Array, "rows cols"], Float[Array, "1 rows cols"]]:
        """The exit wave, and its intensities in the diffraction plane, FFT order, incident beam 1.

        **Raises:** `InputError` as `image` does.
        """
        self._check_thickness(vector)
        parameters = self.typed(vector)
        wave = self.wave_at_thickness(self.waves(parameters), parameters.thickness)
        return jnp.fft.ifft2(wave, norm="forward"), (wave.real**2 + wave.imag**2)[None]

    def _check_thickness(self, vectors: Float[Array | np.ndarray, "*batch parameters"]) -> None:
        if isinstance(vectors, Tracer):
            return  # its values are not known
        number = np.rint(np.asarray(vectors)[..., INDEX["thickness"]]).ravel()
        wrong = number[~((number >= 1) & (number <= self.slices))]
        if wrong.size:
            raise InputError(
                f"thickness: found {wrong[0]:g} slices, expected 1 to {self.slices}, the slices "
                "of this simulator"
            )

    @eqx.filter_jit
    def _images(
        self, vectors: Float[Array | np.ndarray, "batch parameters"]
    ) -> Float[Array, "batch pixel_rows pixel_cols"]:
        def on_device(simulator: Simulator, vectors: Array) -> Array:
            return jax.lax.map(simulator.image, vectors, batch_size=simulator.batch)

        count = len(vectors)
        vectors = filled_up(jnp.asarray(vectors), devices.count())
        return over_devices(on_device, self, vectors)[:count]


def make_simulator(
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    *,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, int] | None = None,
    slices: int | None = None,
    sequence: Sequence[int] | None = None,
    scattering: str = "weickenmeier_kohl",
    thermal_absorption: bool = False,
    precision: str = "float32",
    source: SourceSampling | None = None,
    batch: int = 4,
) -> Simulator:
    """Simulator of a crystal repeated along the beam until `slices` slices are crossed.

    **Arguments:** `sequence`, instead of `slices`: the slice of the cell (or `VACUUM`) at each step
    along the beam; `grid_shape`, (rows, cols) of the wave; `image_shape`, (rows, cols) of the image
    before the camera, at most `grid_shape` (default: the same); `thermal_absorption`: the waves
    lose what vibrating atoms scatter diffusely; `source`, sampling of foci and
    angles instead of the microscope's; `batch`, how many parameter vectors
    are computed together.

    **Raises:** `InputError` where a number cannot be used, or float64 is asked for while JAX runs
    in 32-bit mode.
    """
    if sequence is None:
        if slices is None or slices < 1:
            raise InputError(f"thickness: found {slices} slices, expected at least 1")
        sequence = [k % crystal.slices for k in range(slices)]
    grid = crystal.grid(grid_shape)
    propagation, formation = make_instrument(
        microscope,
        grid,
        grid_shape if image_shape is None else image_shape,
        crystal.slice_thickness_nm,
        frame,
        precision,
        source,
    )
    phases = slice_phases(crystal, microscope.potential_model(scattering, thermal_absorption), grid)
    dtype = np.result_type(formation.dtype, np.complex64) if thermal_absorption else formation.dtype
    steps = np.asarray(sequence)
    if np.any(steps == VACUUM):
        steps = np.where(steps == VACUUM, len(phases), steps)
        phases = np.concatenate([phases, np.zeros((1, *grid_shape))])
    return Simulator(
        phases=jnp.asarray(phases, dtype),
        sequence=jnp.asarray(steps, jnp.int32),
        propagation=propagation,
        formation=formation,
        batch=batch,
    )
