"""From parameter vectors to scores: simulate, profile out thickness and shift, compare."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.matching.band import Band
from qhrtem_jax.matching.criteria import Criterion, SumOfSquares
from qhrtem_jax.matching.image_shift import ImageShift, Range, make_image_shift
from qhrtem_jax.matching.likelihood import Likelihood, mean_square
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator

_SHIFT = slice(INDEX["A0_x"], INDEX["A0_y"] + 1)

CONTENDERS = 3
"""So many of the best thicknesses get the shift of a criterion that is not the squared error."""


class Evaluation(eqx.Module):
    """Outcome for one parameter vector; a leading batch axis appears for batches.

    `vector` is the input with what was profiled filled in, so that
    `simulator.image(vector) == image`.
    """

    cost: Float[Array, ""]  # what the criterion makes of the image
    mse: Float[Array, ""]
    vector: Float[Array, " parameters"]
    image: Float[Array, "rows cols"]


class Objective(eqx.Module):
    """How unlike an experimental image simulated images are, by the mean squared error or another
    criterion.

    One propagation gives the wave behind every slice, so with `profile_thickness` each vector gets
    the best whole number of slices within `thickness_range` at no further propagation. With
    `profile_shift` the image shift A0 of least squared error is found from the cross-correlation,
    within `shift_range`, and for another criterion that of its own minimum near it. What is
    profiled is ignored in the input vector.
    """

    simulator: Simulator
    likelihood: Likelihood  # its objective is the mean squared error
    criterion: Criterion | None  # None: the mean squared error, which needs no pixels
    shift: ImageShift
    thickness_penalty: Float[Array, " thicknesses"]  # prior, in units of the cost
    thickness_range: tuple[int, int] = eqx.field(static=True)
    profile_thickness: bool = eqx.field(static=True)
    profile_shift: bool = eqx.field(static=True)

    @property
    def experiment(self) -> Float[Array, "rows cols"]:
        """The image that simulations are compared with."""
        return self.shift.experiment

    @property
    def pixels(self) -> int:
        """Number of pixels of the experiment."""
        return self.likelihood.pixels

    @property
    def squares(self) -> bool:
        """Whether the cost is a sum of squares, those of `residual`."""
        return self.criterion is None or isinstance(self.criterion, SumOfSquares)

    def residual(self, image: Float[Array, "rows cols"]) -> Float[Array, " residuals"]:
        """The sum of its squares is the cost; of the mean squared error where that is none."""
        if isinstance(self.criterion, SumOfSquares):
            return self.criterion.residual(image, self.experiment)
        return self.likelihood.residual(image, self.experiment)

    def slopes(
        self, image: Float[Array, "rows cols"], jacobian: Float[Array, "d rows cols"]
    ) -> Float[Array, "residuals d"]:
        """Derivative of `residual`, from that of the image."""
        if not isinstance(self.criterion, SumOfSquares):
            return self.likelihood.slopes(jacobian)
        _, push = jax.linearize(self.residual, image)
        return jax.vmap(push)(jacobian).T

    def information(self, variance: float) -> float:
        """-2 log likelihood in units of the cost, for noise of `variance`, which is what weighs
        priors; without a meaning where the cost is no sum of squares."""
        if isinstance(self.criterion, SumOfSquares):
            return self.criterion.information(self.experiment, variance)
        return self.pixels / variance

    def expected(self, noise: NoiseModel) -> float | None:
        """The cost of a perfect model; None where the criterion does not say."""
        if isinstance(self.criterion, SumOfSquares):
            return self.criterion.expected(self.experiment, noise)
        return noise.variance if self.criterion is None else None

    def errors(self, images: Float[Array, "n rows cols"]) -> Float[Array, " n"]:
        """Mean squared error of each image."""
        return self.likelihood.objective(images, self.experiment)

    def costs(self, images: Float[Array, "n rows cols"]) -> Float[Array, " n"]:
        """What the criterion makes of each image."""
        if self.criterion is None:
            return self.errors(images)
        return jax.vmap(self.criterion, (0, None))(images, self.experiment)

    @eqx.filter_jit
    def evaluate(self, vectors: Float[Array, "batch parameters"]) -> Evaluation:
        """Evaluate a batch, `simulator.batch` at a time; one propagation per vector."""
        return jax.lax.map(self.evaluate_one, vectors, batch_size=self.simulator.batch)

    def evaluate_one(self, vector: Float[Array, " parameters"]) -> Evaluation:
        """Evaluate one vector."""
        if self.profile_shift:
            vector = vector.at[_SHIFT].set(0.0)
        parameters = self.simulator.typed(vector)
        waves = self.simulator.waves(parameters)
        low, high = self.thickness_range
        if self.profile_thickness:
            thickness = jnp.arange(low, high + 1, dtype=vector.dtype)
            waves = waves[low - 1 : high]
        else:
            thickness = jnp.clip(jnp.round(vector[INDEX["thickness"]]), low, high)[None]
            waves = self.simulator.wave_at_thickness(waves, thickness[0])[None]
        formation, camera = parameters.formation, self.simulator.formation.camera
        still = self.simulator.formation.spectrum(waves, formation)
        shifts = jnp.broadcast_to(vector[_SHIFT], (still.shape[0], 2))
        spectra, penalty = still, self.thickness_penalty
        if not self.profile_thickness:
            penalty = jnp.zeros_like(thickness)
        if self.profile_shift:
            shifts = self.shift.best(camera, spectra, formation)
            spectra = spectra * self.shift.ramp(shifts)
        images = jax.vmap(camera, (0, None))(spectra, formation)
        costs = self.costs(images)
        if self.profile_shift and self.criterion is not None:
            ranked = jnp.where(jnp.isfinite(costs), costs + penalty, jnp.inf)
            _, first = jax.lax.top_k(-ranked, min(CONTENDERS, ranked.size))
            thickness, penalty = thickness[first], penalty[first]

            def moved(spectrum: Array, shift: Array) -> Array:
                return camera((spectrum[None] * self.shift.ramp(shift[None]))[0], formation)

            def least(spectrum: Array, start: Array) -> Array:
                return self.shift.least(lambda s: self.costs(moved(spectrum, s)[None])[0], start)

            shifts = jax.vmap(least)(still[first], shifts[first])
            images = jax.vmap(moved)(still[first], shifts)
            costs = self.costs(images)
        best = jnp.argmin(jnp.where(jnp.isfinite(costs), costs + penalty, jnp.inf))
        filled = vector.at[_SHIFT].set(shifts[best]).at[INDEX["thickness"]].set(thickness[best])
        mse = costs[best] if self.criterion is None else self.errors(images[best][None])[0]
        return Evaluation(costs[best], mse, filled, images[best])


def in_band(objective: Objective, band: Band) -> Objective:
    """The same objective with its images in the coordinates of `band`, `band_of` its simulator."""
    image = np.asarray(objective.experiment, float)
    dtype = objective.experiment.dtype
    within = band.coordinates(image)
    beyond = image - band.along_rows @ within @ band.along_cols.T
    level = band.coordinates(np.full(image.shape, image.mean()))
    return eqx.tree_at(
        lambda o: (
            o.simulator,
            o.shift.experiment,
            o.shift.contrast,
            o.likelihood,
        ),
        objective,
        (
            band.of(objective.simulator),
            jnp.asarray(within, dtype),
            jnp.asarray(within - level, dtype),
            mean_square(image.size, dtype, float(np.sqrt(np.sum(beyond**2)))),
        ),
    )


def make_objective(
    simulator: Simulator,
    experiment: Float[Array, "rows cols"],
    *,
    thickness_range: tuple[int, int],
    shift_range: Range = ((-0.05, 0.05), (-0.05, 0.05)),
    profile: tuple[str, ...] = ("thickness", "shift"),
    thickness_penalty: Float[np.ndarray, " thicknesses"] | None = None,
    criterion: Criterion | None = None,
) -> Objective:
    """Objective for one image.

    **Arguments:** `thickness_range`, first and last number of slices; `shift_range`, bounds of
    (A0_x, A0_y) in nm; `thickness_penalty`, one number per thickness of the range, added to the
    cost when the best is chosen (a prior); `criterion`, what is made small, None: the mean squared
    error (which alone can be had in a band).
    """
    unknown = set(profile) - {"thickness", "shift"}
    if unknown:
        raise ValueError(f"cannot profile {sorted(unknown)}")
    if thickness_penalty is None:
        thickness_penalty = np.zeros(thickness_range[1] - thickness_range[0] + 1)
    dtype = simulator.dtype
    image = jnp.asarray(experiment, dtype)
    return Objective(
        simulator=simulator,
        likelihood=mean_square(image.size, dtype),
        shift=make_image_shift(simulator.formation, image, shift_range),
        criterion=criterion,
        thickness_penalty=jnp.asarray(thickness_penalty, dtype),
        thickness_range=thickness_range,
        profile_thickness="thickness" in profile,
        profile_shift="shift" in profile,
    )
