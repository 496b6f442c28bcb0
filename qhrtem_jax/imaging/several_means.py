"""One set of imaging parameters for several mean images of different thickness.

The paper proposes it in its section 4.2: what one image confuses (thickness with C1, aberrations
with each other) images of other thickness tell apart. Each mean keeps its own thickness, C1 (its
exit plane's height), absorption and shift; all other parameters are shared.
"""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.imaging.result import Mean, OwnParameter
from qhrtem_jax.inputs.columns import (
    Specimen,
    bounds_of,
)
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.weights import ErrorScale, error_scale, pixel_weights
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, moved_plane
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.pooled import Pooled, pooled_fit
from qhrtem_jax.refine.regions import make_region_model
from qhrtem_jax.refine.uncertainty import determined_std, known_without_image

log = logging.getLogger(__name__)

OWN = ("C1", "absorption", "A0_x", "A0_y")
C1_RANGE_NM = 15.0
FIRST_STEP = 2
ROUNDS = 2


@dataclasses.dataclass(frozen=True)
class SeveralMeans:
    """Fitted means: imaging parameters (means, parameters) at each exit plane, simulations, and the
    errors of the shared and own parameters (NaN where fixed), from the weights of the fit;
    `covariance` of the `shared` ones, and which of them the images determine."""

    vectors: np.ndarray
    simulations: np.ndarray
    std: np.ndarray
    shared: tuple[str, ...]
    covariance: np.ndarray
    determined: np.ndarray
    noise: NoiseModel
    gradient_evaluations: int


def fit_several(
    specimen: Specimen,
    space: ParameterSpace,
    images: np.ndarray,
    frame: Frame,
    noise: NoiseModel | None,
    vector: np.ndarray,
) -> SeveralMeans:
    """Fit `images` (means, rows, cols) together, from the parameters `vector` of the first."""
    columns = specimen.columns
    layout = Layout(len(columns.xy), len(columns.chains))
    first, last = space.thickness_range
    sites = sites_of(columns, -(-last // columns.slices))
    choice = specimen.grids(frame, vector, last)
    simulator = specimen.simulator(sites, frame, choice, len(NAMES))
    bounds = bounds_of(layout, space).with_vector(vector).without_priors("C1", "A0_x", "A0_y")
    bounds = bounds.with_reach("C1", C1_RANGE_NM, float(vector[INDEX["C1"]]))
    dtype = simulator.dtype
    mine = bounds.free_names(OWN)
    own = bounds.coordinates(bounds.indices(mine), dtype)
    shared = [n for n in bounds.imaging if n not in OWN]
    both = bounds.coordinates(bounds.indices([*mine, *shared]), dtype)
    weights = noise or NoiseModel(float(np.mean((images - images.mean()) ** 2)), (), "misfit")
    model = make_region_model(simulator, weights)
    occupancies = np.array([chain.occupancy for chain in columns.chains])
    jacobians = 0

    def point(at_exit: np.ndarray, slices: int) -> np.ndarray:
        plane = moved_plane(at_exit, (sites.stack - slices) * columns.slice_nm)
        numbers = columns.numbers_of_slices(slices)
        return layout.point(plane, np.zeros((layout.columns, 2)), numbers, occupancies)

    def at_exit(points: np.ndarray, slices: np.ndarray) -> np.ndarray:
        surplus = (sites.stack - slices) * columns.slice_nm
        rows = zip(points, surplus, strict=True)
        found = np.array([moved_plane(p[layout.imaging], -s) for p, s in rows])
        found[:, INDEX["thickness"]] = slices
        return found

    def best_thickness(
        vectors: np.ndarray, steps: list[list[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Own parameters fitted at each thickness of `steps`; (points, slices) of the best."""
        nonlocal jacobians
        starts = np.array(
            [point(v, n) for v, tried in zip(vectors, steps, strict=True) for n in tried]
        )
        targets = np.repeat(images, [len(tried) for tried in steps], axis=0)
        method = LevenbergMarquardt(own.prior_mean, own.prior_std, 12, 1e-4)
        points, costs, calls = model.fit(own, starts, targets, method)
        jacobians += int(calls.sum())
        chosen, slices, at = [], [], 0
        for tried in steps:
            k = at + int(np.argmin(costs[at : at + len(tried)]))
            chosen.append(points[k])
            slices.append(tried[k - at])
            at += len(tried)
        return np.array(chosen), np.array(slices)

    def pool(start: np.ndarray) -> Pooled:
        """All means together."""
        active = np.ones((len(images), len(mine)), bool)
        return pooled_fit(model, both, len(mine), start, images, active, iterations=15)

    every = list(range(first, last + 1, FIRST_STEP))
    known = round(float(vector[INDEX["thickness"]]))
    points, slices = best_thickness(
        np.tile(vector, (len(images), 1)), [[known], *([every] * (len(images) - 1))]
    )
    for _ in range(ROUNDS):
        pooled = pool(points)
        jacobians += pooled.jacobians
        residuals = model.images(pooled.points) - images
        weights = pixel_weights(noise, residuals, images)
        model = make_region_model(simulator, weights)
        vectors = at_exit(pooled.points, slices)
        near = [[n for n in range(s - 2, s + 3) if first <= n <= last] for s in slices]
        points, slices = best_thickness(vectors, near)
        log.info("thickness of the means: %s slices", ", ".join(map(str, slices)))
    pooled = pool(points)
    own_covariance, shared_covariance = pooled.system.covariances()
    width = np.asarray(both.width, float)
    known = known_without_image(both)[len(mine) :]
    determined = np.isfinite(determined_std(np.sqrt(np.diagonal(shared_covariance)), known))
    std = np.full((len(images), len(NAMES)), np.nan)
    free = np.array(both.free)
    std[:, free[: len(mine)]] = np.sqrt(np.einsum("rii->ri", own_covariance)) * width[: len(mine)]
    std[:, free[len(mine) :]] = np.sqrt(np.diagonal(shared_covariance)) * width[len(mine) :]
    return SeveralMeans(
        at_exit(pooled.points, slices),
        np.asarray(pooled.linearised.image),
        std,
        tuple(shared),
        shared_covariance,
        determined,
        weights,
        jacobians + pooled.jacobians,
    )


def means_table(
    fit: SeveralMeans, images: np.ndarray, noise: NoiseModel | None
) -> tuple[tuple[Mean, ...], ErrorScale]:
    """(the `means` of a result, scale of the errors of the shared parameters)."""
    residuals = fit.simulations - images
    chi2 = float(np.mean(residuals**2)) / fit.noise.variance
    scale = error_scale(fit.noise, noise, images[0], residuals, chi2)
    table = []
    for k in range(len(images)):
        own = {}
        for name in OWN:
            std = float(fit.std[k, INDEX[name]] * scale.noise)
            known = bool(np.isfinite(std))
            own[name] = OwnParameter(
                float(fit.vectors[k, INDEX[name]]),
                std * scale.misfit if known else None,
                std if known else None,
            )
        thickness = round(float(fit.vectors[k, INDEX["thickness"]]))
        table.append(Mean(float(np.mean(residuals[k] ** 2)), thickness, **own))
    return tuple(table), scale
