"""What the structure stages share: simulator of columns, bounds of points, weights of pixels."""

import dataclasses

import jax
import numpy as np

from qhrtem_jax.inputs.instrument import choose_grid, load_crystal, load_microscope
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.matching.noise import (
    MISFIT_MATTERS,
    NoiseModel,
    effective_variance,
    measure_noise,
    misfit_variance,
)
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import Columns, Sites, columns_of
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Microscope
from qhrtem_jax.physics.specimen import Crystal
from qhrtem_jax.physics.structured import Layout, StructuredSimulator, make_structured
from qhrtem_jax.refine.regions import Coordinates, make_coordinates, regions_at_once
from qhrtem_jax.refine.uncertainty import UNDETERMINED

LARGEST_SHIFT_NM = 0.05
LARGEST_STRETCH = 5.0
"""Bounds of the MTF's stretch, in standard deviations of its prior."""

GRID_ERROR_FACTOR = 4.0
"""Structure is fitted at so many times `specimen.grid_error`, still far below the noise, since its
Jacobians are many."""

GPU_BUDGET_BYTES = 4e9


@dataclasses.dataclass(frozen=True)
class Specimen:
    """The columns of the crystal, and the instrument that images them."""

    crystal: Crystal
    columns: Columns
    microscope: Microscope
    settings: Settings

    @property
    def mtf_scale_std(self) -> float:
        """Relative error of the scale of the MTF's frequencies; 0 where there is no MTF."""
        return 0.0 if self.microscope.mtf is None else self.settings.data.mtf_scale_std

    def grids(self, frame: Frame, vector: np.ndarray, slices: int) -> GridChoice:
        """Grids for points near the imaging parameters `vector`."""
        specimen = self.settings.specimen
        coarser = dataclasses.replace(specimen, grid_error=specimen.grid_error * GRID_ERROR_FACTOR)
        settings = dataclasses.replace(self.settings, specimen=coarser)
        vectors = np.tile(vector, (3, 1))
        vectors[:, INDEX["thickness"]] = [max(slices // 3, 1), max(2 * slices // 3, 1), slices]
        return choose_grid(settings, self.crystal, self.microscope, frame, vectors, slices)

    def simulator(
        self, sites: Sites, frame: Frame, choice: GridChoice, coordinates: int
    ) -> StructuredSimulator:
        """Simulator of one region; `coordinates`, about how many will be free."""

        def build(batch: int) -> StructuredSimulator:
            return make_structured(
                self.columns,
                sites,
                self.microscope,
                frame,
                grid_shape=choice.grid,
                image_shape=choice.image,
                scattering=self.settings.specimen.scattering,
                precision=self.settings.precision,
                source=choice.source,
                batch=batch,
            )

        alone = build(1)
        # a CPU works best on one region at a time (its cache), a GPU on as many as it holds
        if jax.default_backend() == "cpu":
            return alone
        return build(min(64, regions_at_once(alone, coordinates, GPU_BUDGET_BYTES)))


def load_specimen(settings: Settings, reader: Reader) -> Specimen:
    """Read the crystal and the instrument.

    **Raises:** `InputError` for files that cannot be used.
    """
    crystal = load_crystal(settings, reader)
    microscope = load_microscope(settings, reader)
    return Specimen(crystal, columns_of(crystal), microscope, settings)


class Bounds:
    """Bounds and priors of whole points, and the coordinates made of some of them."""

    def __init__(self, layout: Layout, space: ParameterSpace) -> None:
        self.layout = layout
        self.low, self.high = np.full(layout.size, -1.0), np.full(layout.size, 1.0)
        self.mean, self.std = np.zeros(layout.size), np.full(layout.size, np.inf)
        self.imaging: list[str] = []
        self.camera: list[int] = []  # free coordinates of the camera
        for variable in space.fitted.space.variables:
            if variable.name == "thickness":
                continue
            k = INDEX[variable.name]
            self.imaging.append(variable.name)
            self.low[k], self.high[k] = variable.low, variable.high
            if variable.prior_mean is not None and variable.prior_std is not None:
                self.mean[k], self.std[k] = variable.prior_mean, variable.prior_std

    def widen(self, name: str, half_width: float, centre: float) -> None:
        """Let an imaging parameter go so far from `centre`, beyond its bounds where needed."""
        k = INDEX[name]
        self.low[k] = min(self.low[k], centre - half_width)
        self.high[k] = max(self.high[k], centre + half_width)

    def without_prior(self, *names: str) -> None:
        """Forget priors that belong to another image (C1 and A0 of the averaged one)."""
        self.std[[INDEX[name] for name in names]] = np.inf

    def include(self, vector: np.ndarray) -> None:
        """Widen the bounds to hold `vector`: values that were found with other bounds."""
        for name in self.imaging:
            self.widen(name, 0.0, float(vector[INDEX[name]]))

    def free_names(self, names: tuple[str, ...]) -> list[str]:
        """Those of `names` that the configuration leaves free."""
        return [name for name in names if name in self.imaging]

    def shifts(self, std_nm: float) -> None:
        """Columns within `LARGEST_SHIFT_NM` of the cell's, with a prior."""
        self.low[self.layout.shifts] = -LARGEST_SHIFT_NM
        self.high[self.layout.shifts] = LARGEST_SHIFT_NM
        self.std[self.layout.shifts] = std_nm

    def occupancies(self, given: np.ndarray, std: float) -> None:
        """Occupancies within 0..1, with a prior around what the cell says."""
        self.low[self.layout.occupancies], self.high[self.layout.occupancies] = 0.0, 1.0
        self.mean[self.layout.occupancies], self.std[self.layout.occupancies] = given, std

    def mtf_scale(self, std: float) -> None:
        """The MTF's frequencies, along either axis, known to the relative error `std`; certain
        where that is 0."""
        if std > 0.0:
            part = self.layout.mtf_stretch
            self.low[part], self.high[part] = -LARGEST_STRETCH * std, LARGEST_STRETCH * std
            self.std[part] = std
            self.camera = self.of(part)

    def counts(self, most: np.ndarray) -> None:
        self.low[self.layout.counts], self.high[self.layout.counts] = 0.0, most

    def coordinates(self, free: list[int], dtype: jax.numpy.dtype) -> Coordinates:
        return make_coordinates(free, self.low, self.high, self.mean, self.std, dtype)

    def indices(self, names: list[str]) -> list[int]:
        """Indices of imaging parameters in a point."""
        return [INDEX[name] for name in names]

    def of(self, part: slice) -> list[int]:
        return list(range(part.start, part.stop))


def pixel_weights(
    noise: NoiseModel | None, residuals: np.ndarray, images: np.ndarray
) -> tuple[NoiseModel, bool]:
    """The noise that weighs pixels, and whether it is the noise (else it is the misfit).

    `residuals`, `images`: (regions, rows, cols). Where the model misses by more than the noise, its
    misfit is what it does not know; that is taken as white with the power that the residual has
    where the image has its contrast.
    """
    mse = float(np.mean(residuals**2))
    if noise is not None and mse < MISFIT_MATTERS * noise.variance:
        return noise, True
    if noise is None:
        measured = [measure_noise(r, "residual") for r in residuals]
        lags = tuple(np.mean([m.lags for m in measured], axis=0))
        return NoiseModel(mse, lags, "residual"), True
    misfits = [misfit_variance(r, i) for r, i in zip(residuals, images, strict=True)]
    return NoiseModel(max(float(np.mean(misfits)), mse), (), "misfit"), False


def same_weights(one: NoiseModel, other: NoiseModel) -> bool:
    """Whether two noises weigh pixels alike (within 5 %)."""
    close = np.isclose(one.variance, other.variance, rtol=0.05)
    return bool(close) and one.lags == other.lags and one.source == other.source


def without_mean_shift(
    covariance: np.ndarray, free: np.ndarray, layout: Layout, width: np.ndarray
) -> np.ndarray:
    """Covariance of the free coordinates (units of their widths) once the mean shift of the columns
    has gone into A0, which is one with it."""
    transform = np.eye(len(free))
    for axis, name in enumerate(("A0_x", "A0_y")):
        shifts = range(layout.shifts.start + axis, layout.shifts.stop, 2)
        at = np.flatnonzero(np.isin(free, list(shifts)))
        if not at.size:
            continue
        transform[np.ix_(at, at)] -= width[at] / width[at][:, None] / len(at)
        for a0 in np.flatnonzero(free == INDEX[name]):
            transform[a0, at] += width[at] / width[a0] / len(at)
    return transform @ covariance @ transform.T


def determined_std(std: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Standard errors, infinite where they say little more than what was `known` without the image
    (the prior, or a uniform distribution over the bounds), or are no numbers."""
    return np.where(np.isfinite(std) & (std < UNDETERMINED * known), std, np.inf)


def known_without_image(coordinates: Coordinates) -> np.ndarray:
    """Standard deviations of the free coordinates before any image, in the unit cube."""
    return np.minimum(np.asarray(coordinates.prior_std, float), np.sqrt(1.0 / 12.0))


@dataclasses.dataclass(frozen=True)
class ErrorScale:
    """From errors that follow from the weights of a fit to those that results give.

    `noise`: factor to the error from the noise alone; `misfit`: from that to the error scaled by
    the misfit, sqrt(max(1, chi2)); `chi2`: reduced chi-square against the noise.
    """

    noise: float
    misfit: float
    chi2: float


def error_scale(
    weights: NoiseModel,
    is_noise: bool,
    noise: NoiseModel | None,
    image: np.ndarray,
    residual: np.ndarray,
    weighted_chi2: float,
) -> ErrorScale:
    """`weighted_chi2`: reduced chi-square against the weights."""
    if is_noise or noise is None:
        return ErrorScale(1.0, float(np.sqrt(max(1.0, weighted_chi2))), weighted_chi2)
    chi2 = float(np.mean(residual**2)) / noise.variance
    share = float(np.sqrt(effective_variance(noise, image) / weights.variance))
    return ErrorScale(share, float(np.sqrt(max(1.0, chi2))), chi2)
