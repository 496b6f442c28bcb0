"""One trust region: a box around the best point that grows, shrinks and restarts.

Eriksson, Pearce, Gardner, Turner, Poloczek, "Scalable Global Optimization via Local Bayesian
Optimization" (TuRBO), NeurIPS 2019; warm restarts as in the paper, section 2.
"""

import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class TrustRegionOptions:
    """Lengths are sides of the box before it is stretched by the length scales."""

    initial_length: float = 0.8
    minimum_length: float = 0.5**9
    maximum_length: float = 1.6
    successes_to_grow: int = 10
    failures_to_shrink: int | None = None  # default: ceil(max(4, d) / batch)
    improvement: float = 1e-3  # relative, of the objective

    def tolerance(self, d: int, batch: int) -> int:
        if self.failures_to_shrink is not None:
            return self.failures_to_shrink
        return math.ceil(max(4.0, d) / batch)


class TrustRegion(eqx.Module):
    """State of the region."""

    length: Float[Array, ""]
    successes: Int[Array, ""]
    failures: Int[Array, ""]


def start(options: TrustRegionOptions) -> TrustRegion:
    return TrustRegion(jnp.asarray(options.initial_length, jnp.float64), jnp.int32(0), jnp.int32(0))


def update(
    region: TrustRegion, improved: Bool[Array, ""], options: TrustRegionOptions, tolerance: int
) -> tuple[TrustRegion, Bool[Array, ""]]:
    """(region after a batch, whether it collapsed and must restart)."""
    successes = jnp.where(improved, region.successes + 1, 0)
    failures = jnp.where(improved, 0, region.failures + 1)
    grow, shrink = successes >= options.successes_to_grow, failures >= tolerance
    length = jnp.where(
        grow, jnp.minimum(2.0 * region.length, options.maximum_length), region.length
    )
    length = jnp.where(shrink, length / 2.0, length)
    collapsed = length < options.minimum_length
    return (
        TrustRegion(
            jnp.where(collapsed, options.initial_length, length),
            jnp.where(grow | collapsed, 0, successes),
            jnp.where(shrink | collapsed, 0, failures),
        ),
        collapsed,
    )


def box(
    region: TrustRegion, centre: Float[Array, " d"], lengthscale: Float[Array, " d"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """(low, high) of the region in the unit cube: longer where the function varies slowly."""
    weight = lengthscale / jnp.mean(lengthscale)
    weight = weight / jnp.exp(jnp.mean(jnp.log(weight)))
    half = 0.5 * region.length * weight
    return jnp.clip(centre - half, 0.0, 1.0), jnp.clip(centre + half, 0.0, 1.0)
