"""What all criteria have in common."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

Image = Float[Array, "rows cols"]


class Criterion(eqx.Module):
    """A number that a search makes as small as possible: 0 where the images are alike.

    Images are vacuum-normalised; of any value it is a JAX function, differentiable where the
    images differ.
    """

    @abc.abstractmethod
    def __call__(self, simulation: Image, experiment: Image) -> Float[Array, ""]:
        """How unlike the images are."""
