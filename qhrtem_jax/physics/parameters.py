"""The parameters of an HRTEM image: names, units, defaults, and their typed form.

A parameter vector is an array of shape (..., len(PARAMETERS)) in the order of `PARAMETERS` and in
the units that users see (mrad for angles). `ImagingParameters` and, of it, `Formation` are what the
physics works with (rad, Haider's aberrations).
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, convention_factors


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Name, unit, default value and meaning of one parameter."""

    name: str
    unit: str
    default: float
    meaning: str


ABERRATION_MEANINGS = {
    "A0": "image shift",
    "C1": "defocus",
    "A1": "twofold astigmatism",
    "A2": "threefold astigmatism",
    "B2": "axial coma",
    "C3": "spherical aberration",
    "S3": "star aberration",
    "A3": "fourfold astigmatism",
    "B4": "fourth-order coma",
    "D4": "three-lobe aberration",
    "A4": "fivefold astigmatism",
    "C5": "fifth-order spherical aberration",
    "S5": "fifth-order star aberration",
    "R5": "rosette aberration",
    "A5": "sixfold astigmatism",
}


def _aberration_parameters() -> tuple[Parameter, ...]:
    defaults = {"C1": 5.0, "C3": -5000.0, "C5": 3.0e6}
    return tuple(
        Parameter(name, "nm", defaults.get(name, 0.0), ABERRATION_MEANINGS[name[:2]])
        for name in ABERRATION_NAMES
    )


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("absorption", "", 0.02, "imaginary fraction of the scattering potential"),
    Parameter("tilt_x", "mrad", 0.0, "specimen tilt along x; moves the wave by -tilt * thickness"),
    Parameter("tilt_y", "mrad", 0.0, "specimen tilt along y"),
    Parameter("image_spread", "nm", 0.016, "rms of the Gaussian blur of the image"),
    Parameter("drift_x", "nm", 0.0, "way of the image along x during the exposure"),
    Parameter("drift_y", "nm", 0.0, "way of the image along y during the exposure"),
    Parameter("focus_spread", "nm", 3.5, "1/e half-width of the focus distribution"),
    Parameter("semi_convergence", "mrad", 0.3, "1/e half-width of the illumination cone"),
    *_aberration_parameters(),
    Parameter("thickness", "slices", 20.0, "number of slices that the beam crosses"),
)

NAMES: tuple[str, ...] = tuple(p.name for p in PARAMETERS)
INDEX: dict[str, int] = {name: k for k, name in enumerate(NAMES)}
UNITS: dict[str, str] = {p.name: p.unit for p in PARAMETERS}
_FIRST_ABERRATION = INDEX[ABERRATION_NAMES[0]]
ABERRATION_SLICE = slice(_FIRST_ABERRATION, _FIRST_ABERRATION + len(ABERRATION_NAMES))


def default_vector() -> Float64[np.ndarray, " parameters"]:
    """The default of every parameter."""
    return np.array([p.default for p in PARAMETERS])


class Formation(eqx.Module):
    """What makes the image of a wave; a leading batch axis appears under `vmap` only.

    `mtf_stretch`: relative change of the frequencies at which the MTF is looked up, along (y, x),
    to first order (None: none).
    """

    aberrations_nm: Float[Array, " components"]  # Haider
    semi_convergence_rad: Float[Array, ""]
    focus_spread_nm: Float[Array, ""]
    image_spread_nm: Float[Array, ""]
    drift_nm: Float[Array, " 2"]  # x, y
    mtf_stretch: Float[Array, " 2"] | None = None


class ImagingParameters(eqx.Module):
    """Typed parameters of one image; a leading batch axis appears under `vmap` only."""

    absorption: Float[Array, ""]
    tilt_rad: Float[Array, " 2"]  # x, y
    thickness: Float[Array, ""]  # slices
    formation: Formation


def from_vector(
    vector: Float[Array, " parameters"],
    convention: str = "haider",
    mtf_stretch: Float[Array, " 2"] | None = None,
) -> ImagingParameters:
    """Typed parameters from a vector whose aberrations are in `convention`."""
    factors = jnp.asarray(convention_factors(convention), dtype=vector.dtype)
    return ImagingParameters(
        absorption=vector[INDEX["absorption"]],
        tilt_rad=vector[INDEX["tilt_x"] : INDEX["tilt_y"] + 1] * 1e-3,
        thickness=vector[INDEX["thickness"]],
        formation=Formation(
            aberrations_nm=vector[ABERRATION_SLICE] * factors,
            semi_convergence_rad=vector[INDEX["semi_convergence"]] * 1e-3,
            focus_spread_nm=vector[INDEX["focus_spread"]],
            image_spread_nm=vector[INDEX["image_spread"]],
            drift_nm=vector[INDEX["drift_x"] : INDEX["drift_y"] + 1],
            mtf_stretch=mtf_stretch,
        ),
    )
