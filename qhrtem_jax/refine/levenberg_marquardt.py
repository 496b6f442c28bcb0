"""Bounded Levenberg-Marquardt least squares with Gaussian priors, many starts at once.

Works in the unit cube, on any residual function. Each iteration costs one call of it, residuals and
Jacobian together (a trial point that fails costs its Jacobian, and saves a second program).
Damping follows Nielsen's gain-ratio rule (Madsen, Nielsen, Tingleff, "Methods for non-linear least
squares problems", 2004, section 3.2); bounds by an active set: a parameter at a bound whose
gradient points outward stays there for the step.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Residuals = Callable[[Float[Array, " d"]], tuple[Float[Array, " n"], Float[Array, "n d"]]]


class LMState(eqx.Module):
    """Best point so far and the quadratic model around it."""

    u: Float[Array, " d"]  # in [0, 1]
    cost: Float[Array, ""]  # sum of squared residuals, priors included
    hessian: Float[Array, "d d"]  # J^T J, priors included
    gradient: Float[Array, " d"]  # J^T r, priors included
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


class LevenbergMarquardt(eqx.Module):
    """Minimises |residuals(u)|^2 + sum ((u - prior_mean) / prior_std)^2 over [0, 1]^d.

    `prior_std` is infinite where there is no prior. A residual function that returns NaN has its
    step refused.
    """

    prior_mean: Float[Array, " d"]
    prior_std: Float[Array, " d"]
    max_iterations: int = eqx.field(static=True, default=40)
    tolerance: float = eqx.field(static=True, default=1e-5)

    def init(self, residuals: Residuals, start: Float[Array, " d"]) -> LMState:
        u = jnp.clip(start, 0.0, 1.0)
        cost, hessian, gradient = self._model(residuals, u)
        one = jnp.ones((), u.dtype)
        damping = 1e-2 * jnp.max(jnp.diagonal(hessian)) + 1e-12
        return LMState(
            u, cost, hessian, gradient, damping, 2.0 * one, jnp.int32(1), ~jnp.isfinite(cost)
        )

    def step(self, residuals: Residuals, state: LMState) -> LMState:
        """One trial step."""
        outward = ((state.u <= 0.0) & (state.gradient > 0.0)) | (
            (state.u >= 1.0) & (state.gradient < 0.0)
        )
        free = jnp.where(outward, 0.0, 1.0)
        matrix = state.hessian * free[:, None] * free[None, :]
        damped = matrix + jnp.diag(state.damping + (1.0 - free))
        move = -jnp.linalg.solve(damped, state.gradient * free)
        trial = jnp.clip(state.u + move, 0.0, 1.0)
        move = trial - state.u
        cost, hessian, gradient = self._model(residuals, trial)
        predicted = -2.0 * move @ state.gradient - move @ state.hessian @ move
        gain = (state.cost - cost) / jnp.maximum(predicted, 1e-30 + 1e-9 * state.cost)
        better = jnp.isfinite(cost) & (cost < state.cost)
        shrink = jnp.maximum(1.0 / 3.0, 1.0 - (2.0 * jnp.clip(gain, 0.0, 1.0) - 1.0) ** 3)
        small = (state.cost - cost) < self.tolerance * state.cost
        # stuck: steps fail although the damping lets only tiny ones through
        stuck = ~better & (state.growth > 256.0)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(better & ~state.converged, new, old)

        return LMState(
            u=choose(trial, state.u),
            cost=choose(cost, state.cost),
            hessian=choose(hessian, state.hessian),
            gradient=choose(gradient, state.gradient),
            damping=jnp.where(better, state.damping * shrink, state.damping * state.growth),
            growth=jnp.where(better, 2.0, 2.0 * state.growth),
            iterations=state.iterations + jnp.where(state.converged, 0, 1),
            converged=state.converged | (better & small & (gain > 0.1)) | stuck,
        )

    def run(self, residuals: Residuals, start: Float[Array, " d"]) -> LMState:
        """Steps until converged or `max_iterations` calls of `residuals`."""
        return jax.lax.while_loop(
            lambda s: ~s.converged & (s.iterations < self.max_iterations),
            lambda s: self.step(residuals, s),
            self.init(residuals, start),
        )

    def _model(self, residuals: Residuals, u: Array) -> tuple[Array, Array, Array]:
        r, jacobian = residuals(u)
        pull = (u - self.prior_mean) / self.prior_std**2
        cost = r @ r + jnp.sum((u - self.prior_mean) * pull)
        hessian = jacobian.T @ jacobian + jnp.diag(1.0 / self.prior_std**2)
        return cost, hessian, jacobian.T @ r + pull
