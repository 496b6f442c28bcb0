"""Chi-square against the correlated noise of the image."""

from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.matching.criteria.criterion import Image, SumOfSquares
from qhrtem_jax.matching.likelihood import Likelihood, make_likelihood
from qhrtem_jax.matching.noise import NoiseModel, effective_variance


class ChiSquare(SumOfSquares):
    """Mean square of the residual once its noise is independent and of unit variance: about 1
    where noise is all that a model misses."""

    needs_noise: ClassVar[bool] = True

    likelihood: Likelihood
    variance: float  # of white noise that would hide the image's structure as much

    @classmethod
    def of(cls, experiment: Image, noise: NoiseModel | None) -> "ChiSquare":
        assert noise is not None
        (rows, cols), image = experiment.shape, np.asarray(experiment, float)
        likelihood = make_likelihood(noise, (rows, cols), experiment.dtype, image)
        return cls(likelihood, effective_variance(noise, image))

    def residual(self, simulation: Image, experiment: Image) -> Float[Array, " residuals"]:
        return self.likelihood.residual(simulation, experiment) / experiment.size**0.5

    def information(self, experiment: Image, variance: float) -> float:
        """Pixels, less where a misfit has raised the `variance`."""
        return experiment.size * self.variance / variance

    def expected(self, experiment: Image, noise: NoiseModel) -> float:
        """1: each whitened pixel has unit variance."""
        return 1.0
