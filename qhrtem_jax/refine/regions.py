"""Least squares of many regions of interest in one compiled program.

Each region is a periodic cell of columns with its own point (`physics.structured`). Residuals are
whitened with the correlation of the noise, so sums of their squares are chi-squares; coordinates
are scaled to the unit cube of their bounds.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from qhrtem_jax.engines import IN_PROCESS, Engine, together
from qhrtem_jax.matching.likelihood import Likelihood, make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.structured import StructuredSimulator
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.jacobian import structured_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt

OPTIONS = 16
"""Programs are compiled for a multiple of so many other numbers of each region."""

Tick = Callable[[int, int], None]
"""Told how many regions of how many are done."""


def silent(done: int, regions: int) -> None:
    """Tells nobody."""


class Linearised(eqx.Module):
    """Quadratic models of regions: chi-square, half its gradient and half its Hessian (without
    priors), in the unit cube, and the images."""

    image: Float[Array, "*regions rows cols"]
    cost: Float[Array, "*regions"]
    gradient: Float[Array, "*regions p"]
    hessian: Float[Array, "*regions p p"]


class Variations(eqx.Module):
    """What other numbers of atoms do to the whitened residual, by inner products.

    Vector 0 is the residual r, vector k its change d_k with the k-th numbers; changes of different
    chains nearly add. `gram`: products of these vectors; `slopes`: their products with the Jacobian
    J of the nuisances, the directions of `Shared` last; `hessian`: J^T J.
    """

    gram: Float[Array | np.ndarray, "*regions vectors vectors"]
    slopes: Float[Array | np.ndarray, "*regions p vectors"]
    hessian: Float[Array | np.ndarray, "*regions p p"]


class Shared(eqx.Module):
    """What is not known of imaging parameters that regions are given: coordinates of a point, and
    independent `directions` (k of them) in these, a standard deviation each."""

    index: tuple[int, ...] = eqx.field(static=True)
    directions: Float[np.ndarray, "k shared"]


ALL_KNOWN = Shared((), np.zeros((0, 0)))
"""The imaging parameters are exact."""


class RegionModel(eqx.Module):
    """Simulator and noise that regions share. `targets` are the images that they are fitted to.

    Work goes through one compiled, vmapped program of `simulator.batch` regions at a time on each
    device, so its compilation does not depend on how many regions there are; `engine` computes it.
    """

    simulator: StructuredSimulator
    likelihood: Likelihood
    engine: Engine = eqx.field(static=True, default=IN_PROCESS)

    def residuals(
        self,
        coordinates: Coordinates,
        base: Float[Array, " point"],
        target: Float[Array, "rows cols"],
        unit: Float[Array, " p"],
    ) -> tuple[Float[Array, " n"], Float[Array, "n p"], Float[Array, "rows cols"]]:
        """(whitened residual, its Jacobian by the unit cube, image) of one region."""
        point = coordinates.place(base, unit)
        image, jacobian = structured_jacobian(self.simulator, point, coordinates.free)
        slopes = self.likelihood.slopes(jacobian) * coordinates.width
        return self.likelihood.residual(image, target), slopes, image

    def images(
        self, points: Float[np.ndarray, "regions point"]
    ) -> Float[np.ndarray, "regions rows cols"]:
        """Images of points."""
        return self._chunked(_image, (), points)

    def jacobians(
        self, coordinates: Coordinates, points: Float[np.ndarray, "regions point"]
    ) -> Float[np.ndarray, "regions p rows cols"]:
        """Derivatives of images by the unit cube."""
        return self._chunked(_jacobian, (coordinates,), points)

    def linearise(
        self,
        coordinates: Coordinates,
        points: Float[np.ndarray, "regions point"],
        targets: Float[np.ndarray, "regions rows cols"],
        tick: Tick = silent,
    ) -> Linearised:
        """Quadratic models around `points`."""
        return self._chunked(_linearise, (coordinates,), points, targets, tick=tick)

    def fit(
        self,
        coordinates: Coordinates,
        points: Float[np.ndarray, "regions point"],
        targets: Float[np.ndarray, "regions rows cols"],
        method: LevenbergMarquardt,
        tick: Tick = silent,
    ) -> tuple[
        Float[np.ndarray, "regions point"],
        Float[np.ndarray, " regions"],
        Float[np.ndarray, " regions"],
    ]:
        """Least squares of every region on its own: (points, objectives, Jacobians used)."""
        return self._chunked(_fit, (coordinates, method), points, targets, tick=tick)

    def variations(
        self,
        coordinates: Coordinates,
        points: Float[np.ndarray, "regions point"],
        targets: Float[np.ndarray, "regions rows cols"],
        counts: Num[np.ndarray, "regions k chains"],
        tick: Tick = silent,
        shared: Shared = ALL_KNOWN,
    ) -> Variations:
        """Effects of other numbers `counts`; nuisances: `coordinates`, then `shared`."""
        vectors = counts.shape[1] + 1
        more = np.repeat(counts[:, -1:], -counts.shape[1] % OPTIONS, axis=1)
        items = points, targets, np.concatenate([counts, more], axis=1)
        found = self._chunked(_variations, (coordinates, shared), *items, tick=tick)
        gram, slopes = found.gram[:, :vectors, :vectors], found.slopes[:, :, :vectors]
        return Variations(gram, slopes, found.hessian)

    def _chunked(
        self, function: Callable[..., Any], common: tuple, *arrays: np.ndarray, tick: Tick = silent
    ) -> Any:
        """`function` of each item of `arrays`, a chunk of fixed size at a time."""
        alone = RegionModel(self.simulator, self.likelihood)  # workers have no engine
        items = tuple(np.asarray(a, self.simulator.dtype) for a in arrays)
        parts = self.engine.parts(function, (alone, *common), items, self.simulator.batch)
        return together(parts, len(items[0]), tick)


def _image(model: RegionModel, point: Array) -> Array:
    return model.simulator.image(point)


def _jacobian(model: RegionModel, coordinates: Coordinates, point: Array) -> Array:
    _, jacobian = structured_jacobian(model.simulator, point, coordinates.free)
    return jacobian * coordinates.width[:, None, None]


def _linearise(
    model: RegionModel, coordinates: Coordinates, point: Array, target: Array
) -> Linearised:
    r, jacobian, image = model.residuals(coordinates, point, target, coordinates.to_unit(point))
    return Linearised(image, r @ r, jacobian.T @ r, jacobian.T @ jacobian)


def _fit(
    model: RegionModel,
    coordinates: Coordinates,
    method: LevenbergMarquardt,
    point: Array,
    target: Array,
) -> tuple[Array, Array, Array]:
    def residuals(unit: Array) -> tuple[Array, Array]:
        return model.residuals(coordinates, point, target, unit)[:2]

    state = method.run(residuals, coordinates.to_unit(point))
    return coordinates.place(point, state.u), state.cost, state.iterations


def _variations(
    model: RegionModel,
    coordinates: Coordinates,
    shared: Shared,
    point: Array,
    target: Array,
    options: Array,
) -> Variations:
    free = coordinates.free + shared.index
    image, every = structured_jacobian(model.simulator, point, free)
    residual, slopes = model.likelihood.residual(image, target), model.likelihood.slopes(every)
    own = len(coordinates.free)
    directions = slopes[:, own:] @ jnp.asarray(shared.directions, slopes.dtype).T
    jacobian = jnp.concatenate([slopes[:, :own] * coordinates.width, directions], axis=1)

    def change(numbers: Array) -> Array:
        other = model.simulator.image(point.at[model.simulator.layout.counts].set(numbers))
        return model.likelihood.residual(other, image)

    changes = jax.lax.map(change, options)
    vectors = jnp.concatenate([residual[None], changes])
    return Variations(vectors @ vectors.T, jacobian.T @ vectors.T, jacobian.T @ jacobian)


def make_region_model(
    simulator: StructuredSimulator,
    noise: NoiseModel,
    targets: Float[np.ndarray, "regions rows cols"],
    engine: Engine = IN_PROCESS,
) -> RegionModel:
    """A region model whose whitening follows `noise`; where that grows with the intensity, with
    that of the mean of `targets`."""
    pixels, dtype = simulator.formation.camera.pixels, simulator.dtype
    likelihood = make_likelihood(noise, pixels, dtype, targets.mean(axis=0))
    return RegionModel(simulator, likelihood, engine)


def regions_at_once(simulator: StructuredSimulator, coordinates: int, budget_bytes: float) -> int:
    """How many regions fit into `budget_bytes`, from the tangents that a Jacobian holds."""
    points = simulator.propagation.band_mask.size
    complex_bytes = 2 * simulator.dtype.itemsize
    one = (simulator.potential.stack + 8) * points * complex_bytes * (coordinates + 1)
    return max(1, int(budget_bytes / one))
