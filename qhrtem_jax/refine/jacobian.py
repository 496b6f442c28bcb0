"""Images and their Jacobian, at the cost of one propagation and its three tangents."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.simulator import Simulator

WAVE_PARAMETERS = ("absorption", "tilt_x", "tilt_y")
"""Parameters that the exit wave depends on; all others act behind it."""


def image_and_jacobian(
    simulator: Simulator, vector: Float[Array, " parameters"], free: tuple[str, ...]
) -> tuple[Float[Array, "rows cols"], Float[Array, "free rows cols"]]:
    """The image of `vector`, and its derivative by each free parameter in that parameter's unit.

    Forward mode, split behind the exit wave: only absorption and tilt need tangents of the
    multislice; all others share the linearised image formation.
    """
    tangents = np.eye(len(NAMES))[[INDEX[name] for name in free]]
    through_wave = [k for k, name in enumerate(free) if name in WAVE_PARAMETERS]

    def wave_of(v: Array) -> Array:
        parameters = simulator.typed(v)
        waves = simulator.waves(parameters.absorption, parameters.tilt_rad)
        return simulator.wave_at_thickness(waves, jax.lax.stop_gradient(v[INDEX["thickness"]]))

    def image_of(wave: Array, v: Array) -> Array:
        parameters = simulator.typed(v)
        return simulator.camera(simulator.spectrum(wave, parameters), parameters.image_spread_nm)

    directions = jnp.asarray(tangents, vector.dtype)
    wave_rows = directions[np.array(through_wave, dtype=int)]
    if through_wave:
        wave, wave_tangents = _value_and_tangents(wave_of, vector, wave_rows)
        all_waves = jnp.zeros((len(free), *wave.shape), wave.dtype)
        all_waves = all_waves.at[np.array(through_wave)].set(wave_tangents)
    else:
        wave = wave_of(vector)
        all_waves = jnp.zeros((len(free), *wave.shape), wave.dtype)
    image, derivative = jax.linearize(image_of, wave, vector)
    return image, jax.vmap(derivative)(all_waves, directions)


def _value_and_tangents(function, point: Array, directions: Array) -> tuple[Array, Array]:
    """(function(point), directional derivatives); `function` is evaluated once."""
    values, tangents = jax.vmap(
        lambda direction: jax.jvp(function, (point,), (direction,)), out_axes=(None, 0)
    )(directions)
    return values, tangents
