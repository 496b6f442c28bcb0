"""One set of imaging parameters for several mean images of different thickness.

The paper proposes it in its section 4.2: what one image confuses (thickness with C1, aberrations
with each other) images of other thickness tell apart. Each mean keeps its own thickness, C1 (its
exit plane's height), absorption and shift; all other parameters are shared.
"""

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.imaging.result import Mean, OwnParameter
from qhrtem_jax.inputs.columns import Specimen, bounds_of
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.weights import ErrorScale, error_scale, pixel_weights
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Columns, Sites, sites_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, moved_plane
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt
from qhrtem_jax.refine.pooled import Pooled, pooled_fit
from qhrtem_jax.refine.regions import RegionModel, make_region_model
from qhrtem_jax.refine.uncertainty import determined_std, known_without_image

log = logging.getLogger(__name__)

OWN = ("C1", "absorption", "A0_x", "A0_y")
C1_RANGE_NM = 15.0
FIRST_STEP = 2
ROUNDS = 2


@dataclasses.dataclass(frozen=True)
class SeveralMeans:
    """Fitted means: imaging parameters at each exit plane, simulations, and the errors of
    the shared and own parameters (NaN where fixed), from the weights of the fit; `covariance` of
    the `shared` ones, and which of them the images determine."""

    vectors: Float[np.ndarray, "means parameters"]
    simulations: Float[np.ndarray, "means rows cols"]
    std: Float[np.ndarray, "means parameters"]
    shared: tuple[str, ...]
    covariance: Float[np.ndarray, "shared shared"]
    determined: Bool[np.ndarray, " shared"]
    noise: NoiseModel
    gradient_evaluations: int


@dataclasses.dataclass(frozen=True)
class _Means:
    """What is constant during the fit: `mine`, the free parameters that each mean has for itself,
    with their coordinates `own`; `both`, those of `mine` and `shared` together."""

    columns: Columns
    layout: Layout
    sites: Sites
    simulator: StructuredSimulator
    images: Float[np.ndarray, "means rows cols"]
    mine: tuple[str, ...]
    shared: tuple[str, ...]
    own: Coordinates
    both: Coordinates

    def model(self, noise: NoiseModel) -> RegionModel:
        """Each mean as a region of its own, weighed by `noise` as that of the vacuum: means of
        different thickness are not bright at the same places."""
        noise = dataclasses.replace(noise, growth=0.0)
        return make_region_model(self.simulator, noise, self.images)

    def point(
        self, at_exit: Float[np.ndarray, " parameters"], slices: int
    ) -> Float[np.ndarray, " point"]:
        """The crystal of so many slices; `at_exit`: parameters at its exit plane."""
        columns, layout = self.columns, self.layout
        plane = moved_plane(at_exit, (self.sites.stack - slices) * columns.slice_nm)
        occupancies = np.array([chain.occupancy for chain in columns.chains])
        numbers = columns.numbers_of_slices(slices)
        return layout.point(plane, np.zeros((layout.columns, 2)), numbers, occupancies)

    def at_exit(
        self, points: Float[np.ndarray, "means point"], slices: Int[np.ndarray, " means"]
    ) -> Float[np.ndarray, "means parameters"]:
        """Parameters at the exit planes, and the thicknesses, of points."""
        surplus = (self.sites.stack - slices) * self.columns.slice_nm
        rows = zip(points, surplus, strict=True)
        found = np.array([moved_plane(p[self.layout.imaging], -s) for p, s in rows])
        found[:, INDEX["thickness"]] = slices
        return found


def fit_several(
    specimen: Specimen,
    space: ParameterSpace,
    images: Float[np.ndarray, "means rows cols"],
    frame: Frame,
    noise: NoiseModel | None,
    vector: Float[np.ndarray, " parameters"],
) -> SeveralMeans:
    """Fit `images` together, from the parameters `vector` of the first."""
    means = _means(specimen, space, images, frame, vector)
    weights = noise or NoiseModel(float(np.mean((images - images.mean()) ** 2)), (), "misfit")
    model = means.model(weights)
    first, last = space.thickness_range
    every = list(range(first, last + 1, FIRST_STEP))
    known = round(float(vector[INDEX["thickness"]]))
    points, slices, jacobians = _best_thickness(
        means, model, np.tile(vector, (len(images), 1)), [[known], *([every] * (len(images) - 1))]
    )
    for _ in range(ROUNDS):
        pooled = _pool(means, model, points)
        weights = pixel_weights(noise, model.images(pooled.points) - images, images)
        model = means.model(weights)
        near = [[n for n in range(s - 2, s + 3) if first <= n <= last] for s in slices]
        vectors = means.at_exit(pooled.points, slices)
        points, slices, calls = _best_thickness(means, model, vectors, near)
        jacobians += pooled.jacobians + calls
        log.info("thickness of the means: %s slices", ", ".join(map(str, slices)))
    pooled = _pool(means, model, points)
    std, covariance, determined = _errors(means, pooled)
    return SeveralMeans(
        means.at_exit(pooled.points, slices),
        np.asarray(pooled.linearised.image),
        std,
        means.shared,
        covariance,
        determined,
        weights,
        jacobians + pooled.jacobians,
    )


def _means(
    specimen: Specimen,
    space: ParameterSpace,
    images: np.ndarray,
    frame: Frame,
    vector: np.ndarray,
) -> _Means:
    columns, last = specimen.columns, space.thickness_range[1]
    layout = Layout(len(columns.xy), len(columns.chains))
    sites = sites_of(columns, -(-last // columns.slices))
    choice = specimen.grids(frame, vector, last)
    simulator = specimen.simulator(sites, frame, choice, len(NAMES))
    bounds = bounds_of(layout, space).with_vector(vector).without_priors("C1", "A0_x", "A0_y")
    bounds = bounds.with_reach("C1", C1_RANGE_NM, float(vector[INDEX["C1"]]))
    mine = bounds.free_names(OWN)
    shared = [name for name in bounds.imaging if name not in OWN]
    return _Means(
        columns,
        layout,
        sites,
        simulator,
        images,
        tuple(mine),
        tuple(shared),
        bounds.coordinates(bounds.indices(mine), simulator.dtype),
        bounds.coordinates(bounds.indices([*mine, *shared]), simulator.dtype),
    )


def _best_thickness(
    means: _Means, model: RegionModel, vectors: np.ndarray, steps: list[list[int]]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Own parameters fitted at each thickness of `steps`: (points and slices of the best,
    Jacobians)."""
    starts = np.array(
        [means.point(v, n) for v, tried in zip(vectors, steps, strict=True) for n in tried]
    )
    targets = np.repeat(means.images, [len(tried) for tried in steps], axis=0)
    method = LevenbergMarquardt(means.own.prior_mean, means.own.prior_std, 12, 1e-4)
    points, costs, calls = model.fit(means.own, starts, targets, method)
    chosen, slices, at = [], [], 0
    for tried in steps:
        k = at + int(np.argmin(costs[at : at + len(tried)]))
        chosen.append(points[k])
        slices.append(tried[k - at])
        at += len(tried)
    return np.array(chosen), np.array(slices), int(calls.sum())


def _pool(means: _Means, model: RegionModel, start: np.ndarray) -> Pooled:
    """All means together."""
    images, own = means.images, len(means.mine)
    active = np.ones((len(images), own), bool)
    return pooled_fit(model, means.both, own, start, images, active, iterations=15)


def _errors(means: _Means, pooled: Pooled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(`std`, `covariance`, `determined`) of `SeveralMeans`."""
    both, own = means.both, len(means.mine)
    own_covariance, shared_covariance = pooled.system.of_errors().covariances()
    deviations = np.sqrt(np.diagonal(shared_covariance))
    width, known = np.asarray(both.width, float), known_without_image(both)
    determined = determined_std(deviations, known[own:])
    deviations_own = np.sqrt(np.einsum("rii->ri", own_covariance))
    std = np.full((len(means.images), len(NAMES)), np.nan)
    free = np.array(both.free)
    for mine, deviation in zip(std, deviations_own, strict=True):
        mine[free[:own]] = determined_std(deviation, known[:own]) * width[:own]
    std[:, free[own:]] = deviations * width[own:]
    return std, shared_covariance, np.isfinite(determined)


def means_table(
    fit: SeveralMeans, images: Float[np.ndarray, "means rows cols"], noise: NoiseModel | None
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
