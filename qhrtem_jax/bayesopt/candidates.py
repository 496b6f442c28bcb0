"""The next points among a fixed set of candidates, as the pixels that a beam can go to.

Each point of a batch is chosen as if those before it had been measured and found as expected (the
kriging believer; Ginsbourger, Le Riche, Carraro, 2010). Scores are maximised.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qhrtem_jax.bayesopt.acquisition import (
    log_expected_improvement,
    log_probability_of_improvement,
)
from qhrtem_jax.bayesopt.gp import Posterior

LEAST_VARIANCE = 1e-12

MARGIN = {"pi": 0.1}
"""By so much, in deviations of what was measured, a score has to exceed the best: a probability of
improvement without a margin stays where it is."""

Utility = Callable[
    [Float[Array, " m"], Float[Array, " m"], Float[Array, ""], Float[Array, ""]], Float[Array, " m"]
]
"""Of means and deviations, the best score so far, and how much deviations count."""

UTILITIES: dict[str, Utility] = {
    "ei": lambda mean, std, best, _: jnp.exp(log_expected_improvement(mean, std, best)),
    "pi": lambda mean, std, best, _: jnp.exp(log_probability_of_improvement(mean, std, best)),
    "ucb": lambda mean, std, _, beta: mean + jnp.sqrt(beta) * std,
}
"""Expected improvement, probability of improvement, upper confidence bound (Srinivas, Krause,
Kakade, Seeger, ICML 2010)."""


class Choice(eqx.Module):
    """How candidates are weighed: `name` of the utility, its `beta`; `cost` of going once across
    the whole of the unit cube, in units of how much the utilities of candidates differ."""

    name: str = eqx.field(static=True)
    beta: Float[Array, ""]
    cost: Float[Array, ""]


@eqx.filter_jit
def next_batch(
    choice: Choice,
    posterior: Posterior,
    candidates: Float[Array, "m d"],
    free: Bool[Array, " m"],
    here: Float[Array, " d"],
    batch: int,
) -> Int[Array, " batch"]:
    """Which of the `free` candidates come next, in this order, from `here` on; the candidates lie
    in the unit cube. Once none is free, the first candidate comes again."""
    utility = UTILITIES[choice.name]
    h = posterior.hyperparameters
    mean, variance = posterior.mean(candidates)[:, 0], posterior.variance(candidates)
    at_data = posterior.mean(posterior.x)[:, 0]
    best = jnp.max(jnp.where(posterior.mask, at_data, -jnp.inf))
    across = jnp.sqrt(candidates.shape[1])
    reach = posterior.cross(candidates) @ posterior.inverse

    def pick(carry: tuple, slot: Array) -> tuple[tuple, Array]:
        variance, free, here, best, found = carry
        mark = best + MARGIN.get(choice.name, 0.0)
        value = utility(mean, jnp.sqrt(variance), mark, choice.beta)
        low = jnp.min(jnp.where(free, value, jnp.inf))
        high = jnp.max(jnp.where(free, value, -jnp.inf))
        gain = (value - low) / jnp.maximum(high - low, 1e-300)
        way = jnp.sqrt(jnp.sum((candidates - here) ** 2, axis=1)) / across
        chosen = jnp.argmax(jnp.where(free, gain - choice.cost * way, -jnp.inf))
        # what a measurement there would leave unknown of all others
        point = candidates[chosen][None]
        with_it = posterior.kernel(candidates, point)[:, 0]
        with_it = with_it - reach @ posterior.cross(point)[0]
        with_it = with_it - found @ found[chosen]
        known = with_it / jnp.sqrt(jnp.maximum(with_it[chosen], 0.0) + jnp.exp(h.log_noise))
        variance = jnp.maximum(variance - known**2, LEAST_VARIANCE)
        found = found.at[:, slot].set(known)
        best = jnp.maximum(best, mean[chosen])
        return (variance, free.at[chosen].set(False), candidates[chosen], best, found), chosen

    found = jnp.zeros((len(candidates), batch), candidates.dtype)
    start = (jnp.maximum(variance, LEAST_VARIANCE), free, here, best, found)
    _, chosen = jax.lax.scan(pick, start, jnp.arange(batch))
    return chosen
