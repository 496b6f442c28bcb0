"""What all criteria have in common."""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qhrtem_jax.matching.noise import NoiseModel

Image = Float[Array, "rows cols"]


class Criterion(eqx.Module):
    """A number that a search makes as small as possible: 0 where the images are alike.

    Images are vacuum-normalised; of any value it is a JAX function, differentiable where the
    images differ.
    """

    needs_noise: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        """How unlike the images are."""

    @classmethod
    def of(cls, experiment: Image, noise: NoiseModel | None) -> "Criterion":
        """The criterion for one image; `noise` is None where it is not known, which a criterion
        that `needs_noise` is not asked about."""
        return cls()


class SumOfSquares(Criterion):
    """A criterion that least squares can make small, and that can be weighed against priors, where
    it is `absolute`: not blind to what priors would have to be weighed against."""

    absolute: ClassVar[bool] = True

    @abc.abstractmethod
    def residual(self, simulation: Image, experiment: Image) -> Float[Array, " residuals"]:
        """The sum of its squares is the criterion."""

    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        """How unlike the images are."""
        return jnp.sum(self.residual(simulation, experiment) ** 2)

    def information(self, experiment: Image, variance: float) -> float:
        """-2 log likelihood in units of the criterion, near its minimum, where white noise of
        `variance` would hide the image's structure as much as its noise does."""
        return experiment.size / variance

    def expected(self, experiment: Image, noise: NoiseModel) -> float:
        """The criterion of a perfect model."""
        return experiment.size / self.information(experiment, noise.variance)
