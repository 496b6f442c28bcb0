"""The search space: named, bounded variables, and their map to the unit cube."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from qhrtem_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Variable:
    """A search variable: bounds, unit, optional Gaussian prior, continuous or integer."""

    name: str
    low: float
    high: float
    unit: str = ""
    prior_mean: float | None = None
    prior_std: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"found bounds low={self.low}, high={self.high}, "
                "expected finite numbers with low < high (free=false and value fix a parameter)"
            )
        if self.prior_std is not None and not (
            math.isfinite(self.prior_std) and self.prior_std > 0.0
        ):
            raise InputError(f"found prior_std={self.prior_std}, expected above 0")


@dataclasses.dataclass(frozen=True)
class Space:
    """An ordered set of variables; arrays of points have shape (..., len(space))."""

    variables: tuple[Variable, ...]

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    @property
    def low(self) -> Float[np.ndarray, " d"]:
        return np.array([v.low for v in self.variables])

    @property
    def high(self) -> Float[np.ndarray, " d"]:
        return np.array([v.high for v in self.variables])

    @property
    def width(self) -> Float[np.ndarray, " d"]:
        """From `low` to `high`."""
        return self.high - self.low

    @property
    def integer(self) -> Bool[np.ndarray, " d"]:
        return np.array([v.integer for v in self.variables], dtype=bool)

    @property
    def prior_mean(self) -> Float[np.ndarray, " d"]:
        """Means in the unit cube; 0.5 where there is no prior."""
        means = [np.nan if v.prior_mean is None else v.prior_mean for v in self.variables]
        unit = self.to_unit(np.array(means, dtype=float))
        return np.where(np.isnan(unit), 0.5, unit)

    @property
    def prior_std(self) -> Float[np.ndarray, " d"]:
        """Standard deviations in the unit cube; infinite where there is no prior."""
        stds = [np.inf if v.prior_std is None else v.prior_std for v in self.variables]
        return np.array(stds, dtype=float) / self.width

    def to_unit(self, values: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch d"]:
        return (np.asarray(values, dtype=float) - self.low) / self.width

    def from_unit(self, unit: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        dtype = unit.dtype
        return jnp.asarray(self.low, dtype) + unit * jnp.asarray(self.width, dtype)

    def realise(
        self, key: PRNGKeyArray, unit: Float[Array, "*batch d"]
    ) -> Float[Array, "*batch d"]:
        """Values of points of the unit cube, with integers drawn as in the paper's Eq. 3.

        Z = floor(theta) + B, B ~ Bernoulli(theta - floor(theta)), for integer variables.
        """
        values = self.from_unit(unit)
        drawn = stochastic_round(key, values)
        return jnp.where(jnp.asarray(self.integer), drawn, values)


def stochastic_round(key: PRNGKeyArray, theta: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """floor(theta) + Bernoulli(theta - floor(theta)): an integer whose expectation is theta."""
    floor = jnp.floor(theta)
    return floor + (jax.random.uniform(key, theta.shape, theta.dtype) < theta - floor)
