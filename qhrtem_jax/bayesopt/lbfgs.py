"""Projected limited-memory BFGS on a box, jit- and vmap-able.

Nocedal and Wright, "Numerical Optimization", 2nd ed., algorithm 7.4 for the direction; gradient
projection for the bounds. Every loop pass costs exactly one call of value-and-gradient (a step that
fails Armijo's condition is halved in the next pass), so a vmapped run over many starts wastes none.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

ValueAndGrad = Callable[[Float[Array, " d"]], tuple[Float[Array, ""], Float[Array, " d"]]]


class _State(eqx.Module):
    x: Float[Array, " d"]
    value: Float[Array, ""]
    gradient: Float[Array, " d"]
    direction: Float[Array, " d"]
    step: Float[Array, ""]
    moves: Float[Array, "memory d"]
    changes: Float[Array, "memory d"]
    used: Bool[Array, " memory"]


def minimise(
    value_and_grad: ValueAndGrad,
    start: Float[Array, " d"],
    low: Float[Array, " d"],
    high: Float[Array, " d"],
    evaluations: int | Int[Array, ""],
    memory: int = 6,
    first_step: float = 0.1,
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Best point and value after `evaluations` calls, from `start`, inside [low, high].

    `first_step`: length of the first move as a fraction of the box diagonal. Values that are not
    finite are refused like any step that is too long.
    """
    d = start.shape[0]
    x = jnp.clip(start, low, high)
    value, gradient = value_and_grad(x)
    norm = jnp.linalg.norm(gradient) + 1e-30
    scale = first_step * jnp.linalg.norm(high - low) / norm
    state = _State(
        x,
        value,
        gradient,
        -scale * gradient,
        jnp.ones((), x.dtype),
        jnp.zeros((memory, d), x.dtype),
        jnp.zeros((memory, d), x.dtype),
        jnp.zeros(memory, bool),
    )

    def advance(_: Array, s: _State) -> _State:
        trial = jnp.clip(s.x + s.step * s.direction, low, high)
        move = trial - s.x
        trial_value, trial_gradient = value_and_grad(trial)
        slope = s.gradient @ move
        accept = (
            jnp.isfinite(trial_value)
            & jnp.all(jnp.isfinite(trial_gradient))
            & (trial_value <= s.value + 1e-4 * slope)
            & (slope < 0.0)
        )
        change = trial_gradient - s.gradient
        curved = accept & (move @ change > 1e-12 * (jnp.linalg.norm(move) ** 2 + 1e-30))
        moves = jnp.where(curved, jnp.roll(s.moves, 1, 0).at[0].set(move), s.moves)
        changes = jnp.where(curved, jnp.roll(s.changes, 1, 0).at[0].set(change), s.changes)
        used = jnp.where(curved, jnp.roll(s.used, 1).at[0].set(True), s.used)
        x = jnp.where(accept, trial, s.x)
        gradient = jnp.where(accept, trial_gradient, s.gradient)
        held = ((x <= low) & (gradient > 0.0)) | ((x >= high) & (gradient < 0.0))
        reduced = jnp.where(held, 0.0, gradient)
        direction = jnp.where(held, 0.0, -_two_loop(reduced, moves, changes, used))
        steepest = -scale * reduced
        descends = direction @ reduced < 0.0
        direction = jnp.where(descends & jnp.any(used), direction, steepest)
        return _State(
            x,
            jnp.where(accept, trial_value, s.value),
            gradient,
            jnp.where(accept, direction, s.direction),
            jnp.where(accept, 1.0, 0.4 * s.step),
            moves,
            changes,
            used,
        )

    final = jax.lax.fori_loop(0, evaluations - 1, advance, state)
    return final.x, final.value


def _two_loop(gradient: Array, moves: Array, changes: Array, used: Array) -> Array:
    """Inverse-Hessian product; row 0 of the memory is the newest pair."""
    inner = jnp.sum(moves * changes, axis=1)
    rho = jnp.where(used, 1.0 / jnp.where(used, inner, 1.0), 0.0)

    def newest_first(q: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        move, change, weight = pair
        alpha = weight * (move @ q)
        return q - alpha * change, alpha

    def oldest_first(r: Array, pair: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        move, change, weight, alpha = pair
        return r + move * (alpha - weight * (change @ r)), None

    q, alphas = jax.lax.scan(newest_first, gradient, (moves, changes, rho))
    newest = jnp.where(used[0], inner[0] / jnp.maximum(jnp.sum(changes[0] ** 2), 1e-30), 1.0)
    r, _ = jax.lax.scan(oldest_first, newest * q, (moves, changes, rho, alphas), reverse=True)
    return r
