"""Bounded Levenberg-Marquardt least squares with Gaussian priors, many starts at once.

Works in the unit cube, on any residual function. Each iteration costs one call of it, residuals and
Jacobian together (a trial point that fails costs its Jacobian, and saves a second program).
Damping follows Nielsen's gain-ratio rule; bounds by an active set: a parameter at a bound whose
gradient points outward stays there for the step.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qhrtem_jax.numerics.positive_definite import factorise
from qhrtem_jax.refine.damping import Descent, Nielsen, begin, descend

Residuals = Callable[[Float[Array, " d"]], tuple[Float[Array, " n"], Float[Array, "n d"]]]


PATIENCE = 9
"""So many refused steps in a row end the fit: the damping lets only tiny ones through."""


class Quadratic(eqx.Module):
    """A point and the quadratic model around it."""

    u: Float[Array, " d"]  # in [0, 1]
    hessian: Float[Array, "d d"]  # J^T J, priors included
    gradient: Float[Array, " d"]  # J^T r, priors included


class LMState(eqx.Module):
    """The best point, and what finding it took."""

    u: Float[Array, " d"]  # in [0, 1]
    cost: Float[Array, ""]  # sum of squared residuals, priors included
    iterations: Int[Array, ""]  # calls of the residual function
    converged: Bool[Array, ""]


class LevenbergMarquardt(eqx.Module):
    """Minimises |residuals(u)|^2 + sum ((u - prior_mean) / prior_std)^2 over [0, 1]^d.

    `prior_std` is infinite where there is no prior. A residual function that returns NaN has its
    step refused. One compiled program serves any `max_iterations` and `tolerance`.
    """

    prior_mean: Float[Array, " d"]
    prior_std: Float[Array, " d"]
    max_iterations: Int[Array, ""] = eqx.field(converter=jnp.asarray, default=40)
    tolerance: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-5)

    def run(self, residuals: Residuals, start: Float[Array, " d"]) -> LMState:
        """Steps until converged or `max_iterations` calls of `residuals`."""

        def propose(here: Quadratic, damping: Array) -> tuple[Quadratic, Array, Array]:
            move = _bounded(here, damping)
            found, cost = self._model(residuals, here.u + move)
            foretold = -2.0 * move @ here.gradient - move @ here.hessian @ move
            return found, cost, jnp.maximum(foretold, 1e-30 + 1e-9 * cost)

        def converged(state: Descent[Quadratic]) -> Array:
            small = state.fall < self.tolerance * (state.objective + state.fall)
            settled = (state.accepted > 0) & (state.refused == 0) & small & (state.gain > 0.1)
            return settled | (state.refused >= PATIENCE) | ~jnp.isfinite(state.objective)

        def go_on(state: Descent[Quadratic]) -> Array:
            return ~converged(state) & (state.tried + 1 < self.max_iterations)

        first, cost = self._model(residuals, jnp.clip(start, 0.0, 1.0))
        damping = 1e-2 * jnp.max(jnp.diagonal(first.hessian), initial=0.0) + 1e-12
        state = begin(first, cost, damping)
        state = descend(state, propose, Nielsen(), go_on, jax.lax.while_loop)
        return LMState(state.best.u, state.objective, state.tried + 1, converged(state))

    def _model(self, residuals: Residuals, u: Array) -> tuple[Quadratic, Array]:
        r, jacobian = residuals(u)
        pull = (u - self.prior_mean) / self.prior_std**2
        cost = r @ r + jnp.sum((u - self.prior_mean) * pull)
        hessian = jacobian.T @ jacobian + jnp.diag(1.0 / self.prior_std**2)
        return Quadratic(u, hessian, jacobian.T @ r + pull), cost


def _bounded(here: Quadratic, damping: Array) -> Array:
    """The damped step within the unit cube."""
    outward = ((here.u <= 0.0) & (here.gradient > 0.0)) | ((here.u >= 1.0) & (here.gradient < 0.0))
    free = jnp.where(outward, 0.0, 1.0)
    matrix = here.hessian * free[:, None] * free[None, :]
    damped = matrix + jnp.diag(damping + (1.0 - free))
    _, inverse = factorise(damped)
    move = -inverse.T @ (inverse @ (here.gradient * free))
    return jnp.clip(here.u + move, 0.0, 1.0) - here.u
