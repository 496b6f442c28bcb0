"""Batches of points that promise most, inside a box.

- `qucb`: the paper's Eq. 2 on the joint posterior of the batch, with fixed base samples
  (Wilson et al., 2017);
- `ucb`, `logei`, `logpi`: one point after the other, each conditioned on those before it (their
  values are believed to be the mean, so only the deviation shrinks; Desautels et al., JMLR 2014);
- `thompson`: each point maximises its own sample function of the posterior.

All share one optimizer: random points in the box, the best of them improved together by projected
L-BFGS. Scores are maximised.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from qhrtem_jax.bayesopt import lbfgs
from qhrtem_jax.bayesopt.surrogate import Surrogate
from qhrtem_jax.numerics.positive_definite import factorise

ACQUISITIONS = ("qucb", "ucb", "logei", "logpi", "thompson")

ROUNDING = 1e-7
"""Part of the prior's variance that conditioning on data may leave wrong."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How hard the acquisition is maximised."""

    raw_points: int = 256
    starts: int = 3
    gradient_calls: int = 24
    base_samples: int = 32  # pairs, see `antithetic_normal`


def antithetic_normal(
    key: PRNGKeyArray, pairs: int, shape: tuple[int, ...]
) -> Float[Array, "s ..."]:
    """2 * pairs standard normal samples, each with its mirror image: their mean is exactly 0."""
    half = jax.random.normal(key, (pairs, *shape), jnp.float64)
    return jnp.concatenate([half, -half])


def qucb_value(
    mean: Float[Array, " q"], samples: Float[Array, "s q"], beta: Float[Array, ""]
) -> Float[Array, ""]:
    """E[max_j (mu_j + sqrt(beta pi / 2) |Y_j - mu_j|)] over samples Y of the posterior (Eq. 2)."""
    width = jnp.sqrt(beta * jnp.pi / 2.0)
    return jnp.mean(jnp.max(mean + width * jnp.abs(samples - mean), axis=-1))


def log_expected_improvement(
    mean: Float[Array, " m"], deviation: Float[Array, " m"], best: Float[Array, ""]
) -> Float[Array, " m"]:
    """log E[max(score - best, 0)], stable far below the best (Ament et al., NeurIPS 2023)."""
    z = (mean - best) / deviation
    log_density = -0.5 * z**2 - 0.5 * jnp.log(2.0 * jnp.pi)
    near = jnp.maximum(z, -5.0)
    direct = jnp.exp(-0.5 * near**2) / jnp.sqrt(2 * jnp.pi) + near * jax.scipy.stats.norm.cdf(near)
    # for z -> -inf, phi(z) + z Phi(z) -> phi(z) (1/z^2 - 3/z^4 + 15/z^6)
    far = 1.0 / jnp.minimum(z, -5.0) ** 2
    tail = log_density + jnp.log(far * (1.0 - 3.0 * far + 15.0 * far**2))
    return jnp.where(z > -5.0, jnp.log(direct), tail) + jnp.log(deviation)


def log_probability_of_improvement(
    mean: Float[Array, " m"], deviation: Float[Array, " m"], best: Float[Array, ""]
) -> Float[Array, " m"]:
    """log P(score > best) (Kushner, J. Basic Eng. 86, 97 (1964)), stable far below the best."""
    return jax.scipy.stats.norm.logcdf((mean - best) / deviation)


def propose(
    name: str,
    surrogate: Surrogate,
    key: PRNGKeyArray,
    raw: Float[Array, "raw d"],
    low: Float[Array, " d"],
    high: Float[Array, " d"],
    best_score: Float[Array, ""],
    beta: Float[Array, ""],
    batch: int,
    effort: Effort,
) -> Float[Array, "batch d"]:
    """A batch of points in [low, high]; `raw` points in it serve as starts."""
    arguments = (surrogate, key, raw, low, high)
    if name == "qucb":
        return _qucb(*arguments, beta, batch, effort)
    if name == "thompson":
        return _thompson(*arguments, batch, effort)
    if name == "ucb":
        width = jnp.sqrt(beta)
        return _greedy(
            *arguments, best_score, lambda mean, std, _: mean + width * std, batch, effort
        )
    if name == "logei":
        return _greedy(*arguments, best_score, log_expected_improvement, batch, effort)
    if name == "logpi":
        return _greedy(*arguments, best_score, log_probability_of_improvement, batch, effort)
    raise ValueError(f"unknown acquisition {name!r}, expected one of {ACQUISITIONS}")


def _qucb(surrogate, key, raw, low, high, beta, batch, effort) -> Array:
    k_base, k_start = jax.random.split(key)
    base = antithetic_normal(k_base, effort.base_samples, (batch, surrogate.outputs))
    d = raw.shape[1]

    def loss(flat: Array) -> Array:
        samples = surrogate.samples(flat.reshape(batch, d), base)
        return -qucb_value(jnp.mean(samples, axis=0), samples, beta)

    # Starts: each slot takes the raw point that wins under noise of the acquisition's own width.
    mean, deviation = surrogate.marginal(raw)
    noise = jax.random.normal(k_start, (effort.starts, batch, raw.shape[0]), raw.dtype)
    width = jnp.sqrt(beta * jnp.pi / 2.0)
    winners = jnp.argmax(mean + width * deviation * jnp.abs(noise) + 1e-3 * noise, axis=-1)
    starts = raw[winners].reshape(effort.starts, batch * d)
    bounds = jnp.tile(low, batch), jnp.tile(high, batch)
    points, values = jax.vmap(
        lambda s: lbfgs.minimise(jax.value_and_grad(loss), s, *bounds, effort.gradient_calls)
    )(starts)
    return points[_smallest(values)].reshape(batch, d)


def _thompson(surrogate, key, raw, low, high, batch, effort) -> Array:
    path = surrogate.paths(key, batch)
    index = jnp.arange(batch)
    values = jax.vmap(lambda k: jax.vmap(lambda p: path(k, p))(raw))(index)  # (batch, raw)
    starts = raw[jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf), axis=1)]

    def climb(k: Array, start: Array) -> Array:
        loss = jax.value_and_grad(lambda point: -path(k, point))
        return lbfgs.minimise(loss, start, low, high, effort.gradient_calls)[0]

    return jax.vmap(climb)(index, starts)


def _greedy(surrogate, key, raw, low, high, best_score, utility, batch, effort) -> Array:
    del key
    gp = surrogate.posterior
    d = raw.shape[1]

    def deviation_ratio(points: Array, pending: Array, used: Array) -> Array:
        """Deviation after believing the pending points, over the deviation before."""
        h = gp.hyperparameters
        cross_points, cross_pending = gp.cross(points), gp.cross(pending)
        before = gp.variance(points)
        joint = gp.kernel(points, pending) - cross_points @ gp.inverse @ cross_pending.T
        block = gp.kernel(pending, pending) - cross_pending @ gp.inverse @ cross_pending.T
        joint = jnp.where(used, joint, 0.0)
        block = jnp.where(used[:, None] & used, block, 0.0)
        # where the data leave no variance, differences of the prior's round to less than nothing
        least = jnp.exp(h.log_noise) + ROUNDING * jnp.exp(h.log_outputscale)
        block = block + jnp.diag(jnp.where(used, least, 1.0))
        _, inverse = factorise(block)
        gain = jnp.sum((joint @ inverse.T) ** 2, axis=1)
        return jnp.sqrt(jnp.clip(1.0 - gain / before, 1e-6, 1.0))

    def value(points: Array, pending: Array, used: Array, best: Array) -> Array:
        mean, deviation = surrogate.marginal(points)
        return utility(mean, deviation * deviation_ratio(points, pending, used), best)

    def pick(
        carry: tuple[Array, Array, Array], slot: Array
    ) -> tuple[tuple[Array, Array, Array], None]:
        pending, used, best = carry
        order = jnp.argsort(-value(raw, pending, used, best))[: effort.starts]

        def loss(point: Array) -> Array:
            return -value(point[None], pending, used, best)[0]

        points, losses = jax.vmap(
            lambda s: lbfgs.minimise(jax.value_and_grad(loss), s, low, high, effort.gradient_calls)
        )(raw[order])
        chosen = points[_smallest(losses)]
        # the believed value of what is chosen is the mark for the slots that follow
        best = jnp.maximum(best, surrogate.marginal(chosen[None])[0][0])
        return (pending.at[slot].set(chosen), used.at[slot].set(True), best), None

    start = (jnp.zeros((batch, d), raw.dtype), jnp.zeros(batch, bool), best_score)
    (points, _, _), _ = jax.lax.scan(pick, start, jnp.arange(batch))
    return points


def _smallest(values: Float[Array, " n"]) -> Array:
    """Index of the smallest finite value."""
    return jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
