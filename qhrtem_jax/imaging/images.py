"""Simulated images of a fit, and how they depend on its parameters."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.bayesopt.space import Space
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.matching.band import Band, band_of
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.refine.jacobian import image_and_jacobian


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """Images of a simulator, and their Jacobian by the continuous parameters `names` in units of
    their ranges: by pixels, or by coordinates in a `band` where there are too many pixels."""

    simulator: Simulator
    in_band: Simulator  # the same where there is no band
    band: Band | None
    names: tuple[str, ...]
    width: Float[np.ndarray, " d"]

    @property
    def basis(self) -> tuple[Float[np.ndarray, "rows n"], Float[np.ndarray, "cols m"]] | None:
        """Functions of the rows and columns, of the Jacobian's coordinates; None for pixels."""
        return None if self.band is None else (self.band.along_rows, self.band.along_cols)

    def image(self, vector: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, "rows cols"]:
        """The image of a parameter vector."""
        point = jnp.asarray(vector, self.simulator.dtype)
        if self.band is None:  # one compiled program for both
            return np.asarray(_both(self.simulator, point, self.names)[0], float)
        return np.asarray(_image(self.simulator, point), float)

    def jacobian(self, vector: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, "d n m"]:
        """Its derivative, (parameters, rows, cols) or in the band's coordinates."""
        point = jnp.asarray(vector, self.simulator.dtype)
        jacobian = _both(self.in_band, point, self.names)[1]
        return np.asarray(jacobian, float) * self.width[:, None, None]


def image_model(simulator: Simulator, space: ParameterSpace) -> ImageModel:
    """The images of what `space` leaves free."""
    variables = [v for v in space.fitted.space.variables if v.name != "thickness"]
    band = band_of(simulator)
    return ImageModel(
        simulator,
        simulator if band is None else band.of(simulator),
        band,
        tuple(v.name for v in variables),
        Space(tuple(variables)).width,
    )


@eqx.filter_jit
def _image(simulator: Simulator, vector: Array) -> Array:
    return simulator.image(vector)


@eqx.filter_jit
def _both(simulator: Simulator, vector: Array, names: tuple[str, ...]) -> tuple[Array, Array]:
    return image_and_jacobian(simulator, vector, names)
