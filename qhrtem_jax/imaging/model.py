"""What a search for imaging parameters works with, and what it finds."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.imaging.evaluator import Evaluator, make_evaluator
from qhrtem_jax.imaging.images import ImageModel, image_model
from qhrtem_jax.imaging.problem import ImagingProblem
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.settings import OptimizerSettings
from qhrtem_jax.io.journal import Journal, Picture
from qhrtem_jax.matching.band import band_of
from qhrtem_jax.matching.criteria import CRITERIA
from qhrtem_jax.matching.objective import Objective, in_band, make_objective
from qhrtem_jax.physics.simulator import Simulator

FAR = 5.0
"""A misfit of so many times the noise may be that of a wrong basin."""


@dataclasses.dataclass(frozen=True)
class SearchModel:
    """Everything that is constant during a search.

    `data_variance`: variance of a pixel, which weighs the priors; `expected`: objective of a
    perfect model, None where no noise is known; `images`: what is simulated of the `image` that is
    fitted; `penalty_scale`: factor to the
    thickness's prior in `objective`, which was made for another variance; `began`: seconds of the
    run before the search, which has a limit of its own.
    """

    objective: Objective
    space: ParameterSpace
    settings: OptimizerSettings
    evaluator: Evaluator
    data_variance: float
    expected: float | None
    images: ImageModel
    image: Float[np.ndarray, "rows cols"]
    seed: int
    resume: bool
    penalty_scale: float = 1.0
    began: float = 0.0

    def picture(self, vector: Float[np.ndarray, " parameters"]) -> Picture:
        """What is fitted, and what a parameter vector gives."""
        return self.image, self.images.image(vector)

    @property
    def batch(self) -> int:
        """Evaluations at a time."""
        return min(self.settings.batch, self.settings.max_evaluations)

    @property
    def surrogate(self) -> str:
        """That of Bayesian optimization: by itself, the composite one where there are residuals."""
        if self.settings.surrogate != "auto":
            return self.settings.surrogate
        return "composite" if self.objective.squares else "scalar"

    @property
    def information(self) -> float | None:
        """-2 log likelihood in units of the objective; None where it is no likelihood."""
        return self.objective.information(self.data_variance) if self.objective.squares else None

    def weighed(self, data_variance: float) -> "SearchModel":
        """The same with another weight of the data against the priors, for least squares."""
        scale = self.penalty_scale * data_variance / self.data_variance
        return dataclasses.replace(self, data_variance=data_variance, penalty_scale=scale)

    def out_of_time(self, journal: Journal) -> bool:
        """Whether the search has taken as long as it may."""
        limit = self.settings.max_seconds
        return limit is not None and journal.seconds - self.began >= limit

    def thickness_penalty(self, thickness: int) -> float:
        """What the prior of the thickness adds to the objective."""
        index = thickness - self.space.thickness_range[0]
        return self.penalty_scale * float(self.objective.thickness_penalty[index])

    def with_given_values(self, unit: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """A point of the unit cube with the values that the user gave."""
        space = self.space.space
        given = [name in self.space.given for name in space.names]
        return np.where(given, space.to_unit(self.space.base[self.space.indices]), unit)


@dataclasses.dataclass(frozen=True)
class Found:
    """The best parameter vector, its objective, the best objective that gradients found at each
    thickness, and where each of the starts of gradients ended.

    Once all is done, `starts` says how many of these ended near it, and `misfit`, what its
    objective is in units of a perfect model's (None where that is not known).
    """

    vector: Float[np.ndarray, " parameters"]
    cost: float
    thickness_costs: dict[int, float] = dataclasses.field(default_factory=dict)
    ends: tuple[Float[np.ndarray, " parameters"], ...] = ()
    starts: int = 0
    misfit: float | None = None


def search_model(
    problem: ImagingProblem, simulator: Simulator, variance: float, began: float = 0.0
) -> SearchModel:
    """The search of a problem; `variance` of a pixel, which weighs the priors; `began`: seconds of
    the run before the search."""
    space, settings, image = problem.space, problem.settings, problem.experiment.image
    thickness = space.thickness
    steps = np.arange(space.thickness_range[0], space.thickness_range[1] + 1)
    penalty = np.zeros(len(steps))
    if thickness.prior_mean is not None and thickness.prior_std is not None:
        distance = (steps - thickness.prior_mean) / thickness.prior_std
        penalty = distance**2
    chosen, target = settings.objective.criterion, jnp.asarray(image, simulator.dtype)
    noise = problem.experiment.noise
    criterion = None if chosen == "mse" else CRITERIA[chosen].of(target, noise)
    objective = make_objective(
        simulator,
        target,
        thickness_range=space.thickness_range,
        shift_range=tuple((v.low, v.high) for v in space.shift),  # type: ignore[arg-type]
        profile=space.profiled,
        criterion=criterion,
    )
    band = band_of(simulator) if criterion is None else None
    objective = objective if band is None else in_band(objective, band)
    penalty = jnp.asarray(penalty / objective.information(variance), simulator.dtype)
    objective = eqx.tree_at(lambda o: o.thickness_penalty, objective, penalty)
    evaluator = make_evaluator(objective, space, variance)
    return SearchModel(
        objective,
        space,
        settings.optimizer,
        evaluator,
        variance,
        None if noise is None else objective.expected(noise),
        image_model(simulator, space),
        image,
        settings.seed,
        settings.resume,
        began=began,
    )
