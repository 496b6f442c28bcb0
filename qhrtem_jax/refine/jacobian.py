"""Images and their Jacobian, split behind the exit wave.

Only what the exit wave depends on needs tangents of the multislice; all other parameters share the
linearised image formation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.physics.structured import StructuredSimulator

WAVE_PARAMETERS = ("absorption", "tilt_x", "tilt_y")
"""Imaging parameters that the exit wave depends on; all others act behind it."""

_WAVE_INDICES = frozenset(INDEX[name] for name in WAVE_PARAMETERS)


def image_and_jacobian(
    simulator: Simulator, vector: Float[Array, " parameters"], free: tuple[str, ...]
) -> tuple[Float[Array, "rows cols"], Float[Array, "free rows cols"]]:
    """The image of `vector`, and its derivative by each free parameter in that parameter's unit."""

    def wave_of(v: Array) -> Array:
        waves = simulator.waves(simulator.typed(v))
        return simulator.wave_at_thickness(waves, jax.lax.stop_gradient(v[INDEX["thickness"]]))

    def image_of(wave: Array, v: Array) -> Array:
        return simulator.formation(wave, simulator.typed(v).formation)

    indices = tuple(INDEX[name] for name in free)
    return _split(wave_of, image_of, vector, indices, [k in _WAVE_INDICES for k in indices])


def structured_jacobian(
    simulator: StructuredSimulator, point: Float[Array, " point"], free: tuple[int, ...]
) -> tuple[Float[Array, "rows cols"], Float[Array, "free rows cols"]]:
    """The image of a point, and its derivative by the coordinates of index `free`."""
    structure = range(len(NAMES), simulator.layout.mtf_stretch.start)
    through = [k in _WAVE_INDICES or k in structure for k in free]
    return _split(simulator.wave, simulator.image_of_wave, point, free, through)


def _split(
    wave_of: Callable[[Array], Array],
    image_of: Callable[[Array, Array], Array],
    point: Array,
    free: tuple[int, ...],
    through: list[bool],
) -> tuple[Array, Array]:
    directions = jnp.asarray(np.eye(point.shape[0])[list(free)], point.dtype)
    moving = np.flatnonzero(through)
    if moving.size:
        wave, wave_tangents = jax.vmap(
            lambda direction: jax.jvp(wave_of, (point,), (direction,)), out_axes=(None, 0)
        )(directions[moving])
        all_waves = jnp.zeros((len(free), *wave.shape), wave.dtype).at[moving].set(wave_tangents)
    else:
        wave = wave_of(point)
        all_waves = jnp.zeros((len(free), *wave.shape), wave.dtype)
    image, derivative = jax.linearize(image_of, wave, point)
    return image, jax.vmap(derivative)(all_waves, directions)
