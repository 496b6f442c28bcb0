"""The simulator: parameter vectors in, images out, whole batches in one device call."""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Int

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics import coherence
from qhrtem_jax.physics.camera import Camera, Frame, Mtf, make_camera
from qhrtem_jax.physics.coherence import DRPROBE_SOURCE, Optics, SourceSampling, make_optics
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.constants import electron_wavelength_nm
from qhrtem_jax.physics.grid import Grid, kept_frequencies
from qhrtem_jax.physics.multislice import (
    lowest_frequencies,
    propagator,
    transmission,
    waves_behind_slices,
)
from qhrtem_jax.physics.parameters import INDEX, ImagingParameters, from_vector
from qhrtem_jax.physics.specimen import Crystal, PotentialModel, slice_phases

PRECISIONS = {"float32": jnp.float32, "float64": jnp.float64}
COMPATIBILITIES = ("none", "drprobe")
VACUUM = -1
"""In a sequence of slices: nothing, over the thickness of one slice."""


@dataclasses.dataclass(frozen=True)
class Microscope:
    """What is known of the instrument, and how its coherence is treated."""

    high_tension_kv: float = 300.0
    aberration_convention: str = "haider"
    coherence: str = "focal_sum"
    compatibility: str = "none"
    source: SourceSampling = dataclasses.field(default_factory=SourceSampling)
    mtf: Mtf | None = None
    pixel_integration: bool = True

    def __post_init__(self) -> None:
        electron_wavelength_nm(self.high_tension_kv)
        if self.coherence not in coherence.MODES:
            raise InputError(
                f"coherence: found {self.coherence!r}, expected one of {', '.join(coherence.MODES)}"
            )
        if self.compatibility not in COMPATIBILITIES:
            raise InputError(
                f"compatibility: found {self.compatibility!r}, "
                f"expected one of {', '.join(COMPATIBILITIES)}"
            )

    @property
    def drprobe(self) -> bool:
        return self.compatibility == "drprobe"

    def potential_model(self, scattering: str) -> PotentialModel:
        """Scattering of atoms in this instrument; `compatibility=drprobe` adds celslc's edges."""
        if self.drprobe and scattering == "weickenmeier_kohl":
            scattering = "weickenmeier_kohl_drprobe"
        return PotentialModel(scattering, self.high_tension_kv, low_pass_edge=self.drprobe)


class Simulator(eqx.Module):
    """Images of one stack of slices under varying imaging parameters.

    Parameter vectors follow `physics.parameters.PARAMETERS`, with aberrations in the microscope's
    convention. Every method is a pure function of its arguments, differentiable in every continuous
    parameter, and meant to run under `jit` and `vmap`; `images` does both.
    """

    phases: Float[Array, "unique rows cols"]  # phase shift of each distinct slice, rad
    sequence: Int[Array, " slices"]  # which of them each slice uses
    w_y: Float[Array, " rows"]  # wavelength * frequency, rad
    w_x: Float[Array, " cols"]
    band_mask: Float[Array, "rows cols"]
    optics: Optics
    camera: Camera
    image_shape: tuple[int, int] = eqx.field(static=True)
    slice_nm: float = eqx.field(static=True)
    convention: str = eqx.field(static=True)
    coherence: str = eqx.field(static=True)
    source: SourceSampling = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    @property
    def slices(self) -> int:
        """Number of slices that the beam crosses."""
        return self.sequence.shape[0]

    @property
    def dtype(self) -> jnp.dtype:
        return self.phases.dtype

    def typed(self, vector: Float[Array, " parameters"]) -> ImagingParameters:
        """Typed parameters of a vector in the microscope's convention."""
        return from_vector(vector, self.convention)

    def waves(
        self, absorption: Float[Array, ""], tilt_rad: Float[Array, " 2"]
    ) -> Complex[Array, "slices image_rows image_cols"]:
        """Fourier coefficients, on the image grid, of the wave behind every slice."""
        propagate = propagator(
            self.w_x, self.w_y, self.band_mask, self.slice_nm, self.optics.wavelength_nm, tilt_rad
        )
        gratings = transmission(self.phases * (1.0 + 1j * absorption), self.band_mask)
        return waves_behind_slices(gratings, self.sequence, propagate, self.image_shape)

    def wave_through(
        self, phases: Complex[Array, "stack rows cols"], tilt_rad: Float[Array, " 2"]
    ) -> Complex[Array, "image_rows image_cols"]:
        """Fourier coefficients, on the image grid, of the wave behind slices of the given phases
        (see `multislice.transmission`), each crossed once."""
        propagate = propagator(
            self.w_x, self.w_y, self.band_mask, self.slice_nm, self.optics.wavelength_nm, tilt_rad
        )

        @jax.checkpoint  # a field's reverse pass must not keep every intermediate of every slice
        def step(wave: Array, phase: Array) -> tuple[Array, None]:
            grating = transmission(phase, self.band_mask)
            return jnp.fft.ifft2(jnp.fft.fft2(wave * grating) * propagate), None

        wave, _ = jax.lax.scan(step, jnp.ones(phases.shape[1:], propagate.dtype), phases)
        return lowest_frequencies(jnp.fft.fft2(wave, norm="forward"), self.image_shape)

    def spectrum(
        self, wave: Complex[Array, "*batch image_rows image_cols"], parameters: ImagingParameters
    ) -> Complex[Array, "*batch image_rows half_cols"]:
        """Spectrum (`rfft2 / points`) of the intensity before the camera."""
        image = coherence.intensity(self.optics, wave, parameters, self.coherence, self.source)
        return jnp.fft.rfft2(image, norm="forward")

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
        waves = self.waves(parameters.absorption, parameters.tilt_rad)
        wave = self.wave_at_thickness(waves, parameters.thickness)
        return self.camera(self.spectrum(wave, parameters), parameters.image_spread_nm)

    def images(
        self, vectors: Float[Array, "batch parameters"]
    ) -> Float[Array, "batch pixel_rows pixel_cols"]:
        """Images of a batch, `self.batch` at a time (the rest of the memory stays free).

        **Raises:** `InputError` as `image` does.
        """
        self._check_thickness(vectors)
        return self._images(vectors)

    def exit_waves(
        self, vectors: Float[Array, "batch parameters"]
    ) -> Complex[Array, "batch rows cols"]:
        """Exit waves in real space on the image grid, vacuum amplitude 1.

        **Raises:** `InputError` as `image` does.
        """
        self._check_thickness(vectors)
        return self._exit_waves(vectors)

    def _check_thickness(self, vectors: Float[Array, "*batch parameters"]) -> None:
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
        self, vectors: Float[Array, "batch parameters"]
    ) -> Float[Array, "batch pixel_rows pixel_cols"]:
        return jax.lax.map(self.image, vectors, batch_size=self.batch)

    @eqx.filter_jit
    def _exit_waves(
        self, vectors: Float[Array, "batch parameters"]
    ) -> Complex[Array, "batch rows cols"]:
        def one(vector: Array) -> Array:
            parameters = self.typed(vector)
            waves = self.waves(parameters.absorption, parameters.tilt_rad)
            wave = self.wave_at_thickness(waves, parameters.thickness)
            return jnp.fft.ifft2(wave, norm="forward")

        return jax.lax.map(one, vectors, batch_size=self.batch)


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
    precision: str = "float32",
    source: SourceSampling | None = None,
    batch: int = 4,
) -> Simulator:
    """Simulator of a crystal repeated along the beam until `slices` slices are crossed.

    **Arguments:** `sequence`, instead of `slices`: the slice of the cell (or `VACUUM`) at each step
    along the beam; `grid_shape`, (rows, cols) of the wave; `image_shape`, (rows, cols) of the image
    before the camera, at most `grid_shape` (default: the same); `source`, sampling of foci and
    angles instead of the microscope's; `batch`, how many parameter vectors
    are computed together.

    **Raises:** `InputError` where a number cannot be used, or float64 is asked for while JAX runs
    in 32-bit mode.
    """
    _check_precision(precision)
    if sequence is None:
        if slices is None or slices < 1:
            raise InputError(f"thickness: found {slices} slices, expected at least 1")
        sequence = [k % crystal.slices for k in range(slices)]
    grid = crystal.grid(grid_shape)
    phases = slice_phases(crystal, microscope.potential_model(scattering), grid)
    steps = np.asarray(sequence)
    if np.any(steps == VACUUM):
        steps = np.where(steps == VACUUM, len(phases), steps)
        phases = np.concatenate([phases, np.zeros((1, *grid_shape))])
    return _assemble(
        phases,
        steps,
        grid,
        crystal.slice_thickness_nm,
        microscope,
        frame,
        grid_shape if image_shape is None else image_shape,
        PRECISIONS[precision],
        source,
        batch,
    )


def make_column_optics(
    columns: Columns,
    microscope: Microscope,
    frame: Frame,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, int],
    precision: str = "float32",
    source: SourceSampling | None = None,
    batch: int = 1,
) -> tuple[Simulator, Grid]:
    """What a stack of columns needs of a simulator: everything but the phases of its slices."""
    _check_precision(precision)
    grid = Grid(grid_shape, (columns.size_nm[1], columns.size_nm[0]))
    simulator = _assemble(
        np.zeros((1, *grid_shape)),
        np.zeros(1, dtype=int),
        grid,
        columns.slice_nm,
        microscope,
        frame,
        image_shape,
        PRECISIONS[precision],
        source,
        batch,
    )
    return simulator, grid


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"precision: found {precision!r}, expected float32 or float64")
    if precision == "float64" and not jax.config.read("jax_enable_x64"):
        raise InputError(
            "precision: float64 needs JAX's 64-bit mode; "
            "call jax.config.update('jax_enable_x64', True) first"
        )


def _assemble(
    phases: np.ndarray,
    sequence: np.ndarray,
    grid: Grid,
    slice_nm: float,
    microscope: Microscope,
    frame: Frame,
    image_shape: tuple[int, int],
    dtype: jnp.dtype,
    source: SourceSampling | None,
    batch: int,
) -> Simulator:
    wavelength = electron_wavelength_nm(microscope.high_tension_kv)
    q_y, q_x = grid.axes()
    rows = kept_frequencies(grid.shape[0], image_shape[0])
    cols = kept_frequencies(grid.shape[1], image_shape[1])
    mask = np.hypot(*grid.frequencies()) <= grid.band_limit
    return Simulator(
        phases=jnp.asarray(phases, dtype),
        sequence=jnp.asarray(sequence, jnp.int32),
        w_y=jnp.asarray(q_y * wavelength, dtype),
        w_x=jnp.asarray(q_x * wavelength, dtype),
        band_mask=jnp.asarray(mask, dtype),
        optics=make_optics(q_y[rows], q_x[cols], wavelength, dtype),
        camera=make_camera(
            grid.size_nm,
            image_shape,
            frame,
            microscope.mtf,
            microscope.pixel_integration,
            dtype,
            frame_transfer=microscope.drprobe,
        ),
        image_shape=image_shape,
        slice_nm=slice_nm,
        convention=microscope.aberration_convention,
        coherence=microscope.coherence,
        source=DRPROBE_SOURCE if microscope.drprobe else source or microscope.source,
        batch=batch,
    )
