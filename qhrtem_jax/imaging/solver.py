"""Gradients to the next minimum of the objective: least squares, or a quasi-Newton method."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qhrtem_jax.bayesopt import lbfgs
from qhrtem_jax.imaging.model import SearchModel
from qhrtem_jax.matching.objective import Objective
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt

THICKNESS = INDEX["thickness"]

QUASI_NEWTON_CALLS = 3
"""Gradients of the quasi-Newton method for each Jacobian that least squares may take."""


class Solver(eqx.Module):
    """Minimises the objective by the continuous parameters `names`, from one start at a fixed
    thickness."""

    objective: Objective
    base: Float[Array, " parameters"]
    coordinates: Coordinates
    method: LevenbergMarquardt
    names: tuple[str, ...] = eqx.field(static=True)

    @eqx.filter_jit
    def __call__(
        self, start: Float[Array, " d"], thickness: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
        """(point of the unit cube, objective with its priors, mean squared error, Jacobians or
        gradients that it took)."""
        solve = self._least_squares if self.objective.squares else self._quasi_newton
        u, cost, calls = solve(start, thickness)
        if self.objective.criterion is None:
            return u, cost, cost - jnp.sum(self.coordinates.pull(u) ** 2), calls
        image = self.objective.simulator.image(self._vector(u, thickness))
        return u, cost, self.objective.errors(image[None])[0], calls

    def _vector(self, u: Array, thickness: Array) -> Array:
        return self.coordinates.place(self.base, u).at[THICKNESS].set(thickness)

    def _least_squares(self, start: Array, thickness: Array) -> tuple[Array, Array, Array]:
        objective = self.objective

        def residuals(u: Array) -> tuple[Array, Array]:
            vector = self._vector(u, thickness)
            image, jacobian = image_and_jacobian(objective.simulator, vector, self.names)
            jacobian = jacobian * self.coordinates.width[:, None, None]
            return objective.residual(image), objective.slopes(image, jacobian)

        state = self.method.run(residuals, start)
        return state.u, state.cost, state.iterations

    def _quasi_newton(self, start: Array, thickness: Array) -> tuple[Array, Array, Array]:
        def cost(u: Array) -> Array:
            image = self.objective.simulator.image(self._vector(u, thickness))
            return self.objective.costs(image[None])[0]

        calls = QUASI_NEWTON_CALLS * self.method.max_iterations
        box = jnp.zeros_like(start), jnp.ones_like(start)
        u, value = lbfgs.minimise(jax.value_and_grad(cost), start, *box, calls, first_step=0.02)
        return u, value, jnp.int32(calls)


def make_solver(model: SearchModel) -> Solver:
    """The solver of a search; `names` is empty where no parameter but the thickness is free."""
    dtype = model.objective.experiment.dtype
    coordinates = fitted_coordinates(model).on_device(dtype)
    return Solver(
        model.objective,
        jnp.asarray(model.space.base, dtype),
        coordinates,
        LevenbergMarquardt(
            coordinates.prior_mean, coordinates.prior_std, model.settings.max_iterations
        ),
        _continuous(model),
    )


def _continuous(model: SearchModel) -> tuple[str, ...]:
    """The fitted parameters that least squares can change."""
    return tuple(name for name in model.space.fitted.space.names if name != "thickness")


def fitted_coordinates(model: SearchModel) -> Coordinates[np.ndarray]:
    """The parameters that the solver changes, their priors in units of residuals."""
    scale = float(np.sqrt(model.objective.information(model.data_variance)))
    return model.space.fitted.coordinates(_continuous(model), scale)
