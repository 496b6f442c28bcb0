"""The objective of the search in the unit cube of its parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.matching.objective import Objective
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.coordinates import Coordinates


class Evaluator(eqx.Module):
    """Objective in the unit cube: the criterion, and scaled distances to the priors.

    Where the criterion is a sum of squares, that is the sum of the squares of the residuals.
    """

    objective: Objective
    base: Float[Array, " parameters"]
    coordinates: Coordinates  # priors in units of residuals

    @eqx.filter_jit
    def __call__(
        self, unit: Float[Array, "n d"]
    ) -> tuple[
        Float[Array, " n"],
        Float[Array, "n residuals"],
        Float[Array, " n"],
        Float[Array, "n parameters"],
    ]:
        """(objective, residuals (data + d + 1 of each), mse, vectors)."""
        unit = unit.astype(self.base.dtype)
        vectors = jnp.broadcast_to(self.base, (len(unit), self.base.size))
        vectors = self.coordinates.place(vectors, unit)
        found = self.objective.evaluate(vectors)
        data = jax.vmap(self.objective.residual)(found.image)
        pulls = self.coordinates.pull(unit)
        first = self.objective.thickness_range[0]
        thickness = found.vector[:, INDEX["thickness"]].astype(jnp.int32) - first
        known = jnp.sqrt(self.objective.thickness_penalty[thickness])[:, None]
        residuals = jnp.concatenate([data, pulls, known], axis=1)
        if self.objective.squares:
            value = jnp.sum(residuals**2, axis=1)
        else:  # rounded, 1 - SSIM falls below 0
            value = jnp.maximum(found.cost, jnp.finfo(found.cost.dtype).eps)
        return value, residuals, found.mse, found.vector


def make_evaluator(objective: Objective, space: ParameterSpace, data_variance: float) -> Evaluator:
    """`data_variance`: variance of a pixel that the priors are weighed against."""
    dtype = objective.experiment.dtype
    scale = float(np.sqrt(objective.information(data_variance)))
    coordinates = space.coordinates(space.space.names, scale)
    return Evaluator(objective, jnp.asarray(space.base, dtype), coordinates.on_device(dtype))
