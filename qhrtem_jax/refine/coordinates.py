"""The free coordinates of a point: their unit cube, their values, and the priors that pull on them.

Every fit works in the unit cube of its bounds, u = (value - low) / width. Numpy arrays are answered
in float64, JAX arrays in the dtype of the coordinates.
"""

from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

A = TypeVar("A", Array, np.ndarray)
B = TypeVar("B", Array, np.ndarray)


class Coordinates(eqx.Module, Generic[A]):
    """Which coordinates of a point are free, within which bounds, and what is known of them."""

    free: tuple[int, ...] = eqx.field(static=True)
    low: Float[A, " p"]
    width: Float[A, " p"]
    prior_mean: Float[A, " p"]  # in the unit cube
    prior_std: Float[A, " p"]  # in the unit cube; infinite where there is none

    @property
    def index(self) -> Int[np.ndarray, " p"]:
        """The free coordinates' places in a point."""
        return np.array(self.free, dtype=int)

    @property
    def precision(self) -> Float[A, " p"]:
        """Of the priors, in the unit cube; 0 where there is none."""
        return 1.0 / self.prior_std**2

    def on_device(self, dtype: jnp.dtype) -> "Coordinates[Array]":
        """The same as JAX arrays."""
        arrays = (self.low, self.width, self.prior_mean, self.prior_std)
        return Coordinates(self.free, *(jnp.asarray(a, dtype) for a in arrays))

    def host(self) -> "Coordinates[np.ndarray]":
        """The same in numpy's float64."""
        arrays = (self.low, self.width, self.prior_mean, self.prior_std)
        return Coordinates(self.free, *(np.asarray(a, float) for a in arrays))

    def to_unit(self, points: Float[B, "*batch point"]) -> Float[B, "*batch p"]:
        """Unit-cube coordinates of whole points."""
        own = self._like(points)
        return (points[..., self.index] - own.low) / own.width

    def to_values(self, unit: Float[B, "*batch p"]) -> Float[B, "*batch p"]:
        """Values of unit-cube coordinates."""
        own = self._like(unit)
        return own.low + unit * own.width

    def place(
        self, points: Float[B, "*batch point"], unit: Float[B, "*batch p"]
    ) -> Float[B, "*batch point"]:
        """`points` with their free coordinates at `unit`."""
        return self._put(points, self.to_values(unit))

    def step(
        self, points: Float[B, "*batch point"], move: Float[B, "*batch p"]
    ) -> Float[B, "*batch point"]:
        """`points` moved by `move` (in the unit cube) as far as the bounds allow.

        What does not move keeps its value to the last bit, beyond the bounds too.
        """
        xp = np if isinstance(points, np.ndarray) else jnp
        own = self._like(points)
        moved = own.low + xp.clip(self.to_unit(points) + move, 0.0, 1.0) * own.width
        return self._put(points, xp.where(move == 0.0, points[..., self.index], moved))

    def pull(self, unit: Float[B, "*batch p"]) -> Float[B, "*batch p"]:
        """Residuals of the priors, (u - mean) / std: the sum of their squares is what the priors
        add to chi-square; 0 where there is none."""
        own = self._like(unit)
        return (unit - own.prior_mean) / own.prior_std

    def _put(self, points: B, values: Array | np.ndarray) -> B:
        if isinstance(points, np.ndarray):
            found = points.astype(float)
            found[..., self.index] = values
            return found
        return points.at[..., self.index].set(values)

    def _like(self, array: Array | np.ndarray) -> "Coordinates":
        return self.host() if isinstance(array, np.ndarray) else self


def make_coordinates(
    free: list[int],
    low: Float[np.ndarray, " point"],
    high: Float[np.ndarray, " point"],
    mean: Float[np.ndarray, " point"],
    std: Float[np.ndarray, " point"],
    dtype: jnp.dtype,
) -> Coordinates:
    """Coordinates from arrays over whole points; `std` is infinite where there is no prior."""
    index = np.array(free, dtype=int)
    width = (high - low)[index]
    known = np.where(np.isfinite(std[index]), mean[index], low[index])
    return Coordinates(
        tuple(free),
        jnp.asarray(low[index], dtype),
        jnp.asarray(width, dtype),
        jnp.asarray((known - low[index]) / width, dtype),
        jnp.asarray(std[index] / width, dtype),
    )
