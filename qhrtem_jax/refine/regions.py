"""Least squares of many regions of interest in one compiled program.

Each region is a periodic cell of columns with its own point (`physics.structured`). Residuals are
whitened with the correlation of the noise, so sums of their squares are chi-squares; coordinates
are scaled to the unit cube of their bounds.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.structured import StructuredSimulator
from qhrtem_jax.refine.jacobian import structured_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt

SPECTRAL_FLOOR = 0.1
"""Smallest variance, in units of the noise's, that whitening grants any pattern of pixels: the
spectrum of a camera's noise nearly vanishes near 0.8 Nyquist, where no model is that good."""


def whitening(noise: NoiseModel, count: int) -> np.ndarray:
    """Matrix (count, count) that turns noise along one axis into independent unit numbers.

    The variance is shared between the two axes.
    """
    values, vectors = np.linalg.eigh(noise.correlation(count))
    floored = np.maximum(values, SPECTRAL_FLOOR)
    return (vectors / np.sqrt(floored)) @ vectors.T / noise.variance**0.25


class Coordinates(eqx.Module):
    """The free coordinates of a point: their indices, bounds and priors."""

    free: tuple[int, ...] = eqx.field(static=True)
    low: Float[Array, " p"]
    width: Float[Array, " p"]
    prior_mean: Float[Array, " p"]  # in the unit cube
    prior_std: Float[Array, " p"]  # in the unit cube; infinite where there is none

    def place(self, base: Float[Array, " point"], unit: Float[Array, " p"]) -> Array:
        """`base` with the free coordinates at `unit`."""
        return base.at[np.array(self.free)].set(self.low + unit * self.width)

    def unit(self, points: Float[Array, "... point"]) -> Array:
        """Unit-cube coordinates of points."""
        return (points[..., np.array(self.free)] - self.low) / self.width


def make_coordinates(
    free: list[int],
    low: np.ndarray,
    high: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    dtype: jnp.dtype,
) -> Coordinates:
    """Coordinates from arrays over whole points; `std` is infinite where there is no prior."""
    index = np.array(free)
    width = (high - low)[index]
    known = np.where(np.isfinite(std[index]), mean[index], low[index])
    return Coordinates(
        tuple(free),
        jnp.asarray(low[index], dtype),
        jnp.asarray(width, dtype),
        jnp.asarray((known - low[index]) / width, dtype),
        jnp.asarray(std[index] / width, dtype),
    )


class Linearised(eqx.Module):
    """Quadratic models of regions: chi-square, half its gradient and half its Hessian (without
    priors), in the unit cube, and the images."""

    image: Float[Array, "regions rows cols"]
    cost: Float[Array, " regions"]
    gradient: Float[Array, "regions p"]
    hessian: Float[Array, "regions p p"]


class RegionModel(eqx.Module):
    """Simulator and noise that regions share. `targets` are the images that they are fitted to."""

    simulator: StructuredSimulator
    white_y: Float[Array, "rows rows"]
    white_x: Float[Array, "cols cols"]

    def whiten(self, images: Float[Array, "*n rows cols"]) -> Float[Array, "*n rows cols"]:
        return self.white_y @ images @ self.white_x.T

    def residuals(
        self, coordinates: Coordinates, base: Array, target: Array, unit: Array
    ) -> tuple[Float[Array, " n"], Float[Array, "n p"], Float[Array, "rows cols"]]:
        """(whitened residual, its Jacobian, image) of one region."""
        point = coordinates.place(base, unit)
        image, jacobian = structured_jacobian(self.simulator, point, coordinates.free)
        slopes = self.whiten(jacobian).reshape(len(coordinates.free), -1)
        residual = self.whiten(image - target).ravel()
        return residual, (slopes * coordinates.width[:, None]).T, image

    @eqx.filter_jit
    def linearise(self, coordinates: Coordinates, points: Array, targets: Array) -> Linearised:
        """Quadratic models around `points`, (regions, point)."""

        def one(arguments: tuple[Array, Array]) -> Linearised:
            point, target = arguments
            r, jacobian, image = self.residuals(coordinates, point, target, coordinates.unit(point))
            return Linearised(image, r @ r, jacobian.T @ r, jacobian.T @ jacobian)

        return jax.lax.map(one, (points, targets), batch_size=self.simulator.simulator.batch)

    @eqx.filter_jit
    def chi2(self, points: Array, targets: Array) -> Float[Array, " regions"]:
        """Chi-square of each region."""

        def one(arguments: tuple[Array, Array]) -> Array:
            point, target = arguments
            return jnp.sum(self.whiten(self.simulator.image(point) - target) ** 2)

        return jax.lax.map(one, (points, targets), batch_size=self.simulator.simulator.batch)

    @eqx.filter_jit
    def fit(
        self,
        coordinates: Coordinates,
        points: Array,
        targets: Array,
        max_iterations: int = 30,
        tolerance: float = 1e-4,
    ) -> tuple[Array, Array, Array]:
        """Least squares of every region on its own: (points, objectives, Jacobians used)."""
        method = LevenbergMarquardt(
            coordinates.prior_mean, coordinates.prior_std, max_iterations, tolerance
        )

        def one(arguments: tuple[Array, Array]) -> tuple[Array, Array, Array]:
            point, target = arguments

            def residuals(unit: Array) -> tuple[Array, Array]:
                return self.residuals(coordinates, point, target, unit)[:2]

            state = method.run(residuals, coordinates.unit(point))
            return coordinates.place(point, state.u), state.cost, state.iterations

        return jax.lax.map(one, (points, targets), batch_size=self.simulator.simulator.batch)


def make_region_model(simulator: StructuredSimulator, noise: NoiseModel) -> RegionModel:
    """A region model whose whitening follows `noise`."""
    rows = simulator.simulator.camera.to_rows_real.shape[0]
    cols = simulator.simulator.camera.to_cols_real.shape[1]
    dtype = simulator.simulator.dtype
    return RegionModel(
        simulator,
        jnp.asarray(whitening(noise, rows), dtype),
        jnp.asarray(whitening(noise, cols), dtype),
    )
