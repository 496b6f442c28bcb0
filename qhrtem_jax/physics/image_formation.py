"""Image formation: from the wave behind a specimen to the pixels of a camera."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics.precision import need_float64
from qhrtem_jax.physics import coherence
from qhrtem_jax.physics.camera import Camera, Frame, make_camera
from qhrtem_jax.physics.coherence import DRPROBE_SOURCE, Optics, SourceSampling, make_optics
from qhrtem_jax.physics.constants import electron_wavelength_nm
from qhrtem_jax.physics.grid import Grid, kept_frequencies
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.multislice import Propagation, make_propagation
from qhrtem_jax.physics.parameters import Formation, ImagingParameters, from_vector

PRECISIONS = {"float32": jnp.dtype("float32"), "float64": jnp.dtype("float64")}


class ImageFormation(eqx.Module):
    """Images of waves, which are given by their Fourier coefficients on the image grid.

    `convention`: of the aberrations in parameter vectors.
    """

    optics: Optics
    camera: Camera
    convention: str = eqx.field(static=True)
    coherence: str = eqx.field(static=True)
    source: SourceSampling = eqx.field(static=True)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, cols) of the image grid."""
        return self.optics.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.optics.w_x.dtype

    def typed(
        self, vector: Float[Array, " parameters"], mtf_stretch: Float[Array, " 2"] | None = None
    ) -> ImagingParameters:
        """Typed parameters of a vector in the microscope's convention."""
        return from_vector(vector, self.convention, mtf_stretch)

    def spectrum(
        self, wave: Complex[Array, "*batch image_rows image_cols"], formation: Formation
    ) -> Complex[Array, "*batch image_rows half_cols"]:
        """Spectrum (`rfft2 / points`) of the intensity before the camera."""
        image = coherence.intensity(self.optics, wave, formation, self.coherence, self.source)
        return jnp.fft.rfft2(image, norm="forward")

    def __call__(
        self, wave: Complex[Array, "image_rows image_cols"], formation: Formation
    ) -> Float[Array, "pixel_rows pixel_cols"]:
        """Pixels of the image of a wave; vacuum 1."""
        return self.camera(self.spectrum(wave, formation), formation)


def make_instrument(
    microscope: Microscope,
    grid: Grid,
    image_shape: tuple[int, int],
    slice_nm: float,
    frame: Frame,
    precision: str,
    source: SourceSampling | None = None,
) -> tuple[Propagation, ImageFormation]:
    """What every simulator needs beside its specimen.

    **Arguments:** `image_shape`, (rows, cols) of the image before the camera, at most the grid's;
    `source`, sampling of foci and angles instead of the microscope's.

    **Raises:** `InputError` where float64 is asked for while JAX runs in 32-bit mode.
    """
    _check_precision(precision)
    dtype = PRECISIONS[precision]
    wavelength = electron_wavelength_nm(microscope.high_tension_kv)
    q_y, q_x = grid.axes()
    rows = kept_frequencies(grid.shape[0], image_shape[0])
    cols = kept_frequencies(grid.shape[1], image_shape[1])
    formation = ImageFormation(
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
        convention=microscope.aberration_convention,
        coherence=microscope.coherence,
        source=DRPROBE_SOURCE if microscope.drprobe else source or microscope.source,
    )
    return make_propagation(grid, image_shape, slice_nm, wavelength, dtype), formation


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"precision: found {precision!r}, expected float32 or float64")
    if precision == "float64":
        need_float64("precision: float64")
