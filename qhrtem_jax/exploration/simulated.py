"""Images with known columns, to train on: the crystal at hand under random conditions."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

from qhrtem_jax.exploration.atom_finder import BLOB, blobs, spacings
from qhrtem_jax.exploration.windows import standardised
from qhrtem_jax.inputs.instrument import build_simulator, choose_grid
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.specimen import Crystal

SIDE = 64
"""Pixels of a training image."""

MARGIN = 1.5
"""Images are simulated so much larger, to be turned and cut."""

NEAR, NEARER = 0.2, 0.03
"""Share of their bounds within which aberrations that break symmetry are drawn, and within which
those and tilts are that move columns in the image: where these are unknown, so is where columns
are."""

MOVING = ("tilt_x", "tilt_y", "A2_x", "A2_y", "B2_x", "B2_y")

GRID_ERROR = 1e-2
"""Of training images: far below the noise that they get."""

THICKEST = 30
"""Slices, at most, where the thickness is free."""

TURNED_DEG = 5.0
"""Images are turned by up to so much, besides quarter turns and mirrors."""

NOISIEST = 0.5
"""Noise of a training image, in units of its contrast, at most."""

VARIED = ("C1", "C3", "C5", "image_spread", "focus_spread", "semi_convergence", "absorption")
"""Parameters that are drawn between their bounds."""


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """Images with mean 0 and deviation 1, and maps of their columns, whose radius is `radius_px`;
    `spacings`: as `atom_finder.spacings`, of the crystal."""

    images: Float[np.ndarray, "n side side"]
    maps: Float[np.ndarray, "n side side"]
    radius_px: float
    spacings: Float[np.ndarray, " neighbours"]


def training_images(
    settings: Settings,
    space: ParameterSpace,
    crystal: Crystal,
    microscope: Microscope,
    sampling_nm: tuple[float, float],
    count: int,
) -> TrainingImages:
    """Simulated images of the crystal at the sampling of the experiment."""
    rng = np.random.default_rng(settings.seed)
    large = round(MARGIN * SIDE)
    frame = Frame((large, large), sampling_nm)
    vectors = _conditions(space, count, rng)
    slices = int(vectors[:, INDEX["thickness"]].max())
    specimen = dataclasses.replace(settings.specimen, grid="auto", grid_error=GRID_ERROR)
    settings = dataclasses.replace(settings, specimen=specimen)
    choice = choose_grid(settings, crystal, microscope, frame, vectors[:4], slices)
    simulator = build_simulator(settings, crystal, microscope, frame, choice, slices)
    images = np.asarray(simulator.images(vectors.astype(simulator.dtype)), float)
    columns = columns_of(crystal)
    size = np.array(columns.size_nm[1::-1])
    cell = columns.xy_nm[:, ::-1]  # (y, x)
    pixel = np.array(sampling_nm)
    repeats = np.ceil((large + 2) * pixel / size).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-1, n + 1) for n in repeats), indexing="ij"), -1)
    places = (cell[:, None] + steps.reshape(-1, 2) * size).reshape(-1, 2) / pixel
    apart = spacings(places)
    radius = BLOB * float(apart[0])
    found, maps = [], []
    for image in images:
        turned, where = _turned(image, places, rng)
        noise = NOISIEST * rng.uniform() ** 2 * rng.standard_normal(turned.shape)
        found.append(standardised(standardised(turned) + noise))
        maps.append(blobs((SIDE, SIDE), where, radius))
    return TrainingImages(np.array(found, np.float32), np.array(maps, np.float32), radius, apart)


def _conditions(
    space: ParameterSpace, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "count parameters"]:
    """Random parameters around what is known of them, without an image shift."""
    vectors = np.tile(space.base, (count, 1))
    for name, low, width in zip(space.space.names, space.space.low, space.space.width, strict=True):
        base = vectors[:, INDEX[name]]
        near = 1.0 if name in VARIED else NEARER if name in MOVING else NEAR
        drawn = low + width * rng.uniform(size=count)
        vectors[:, INDEX[name]] = base + near * (drawn - base)
    vectors[:, [INDEX["A0_x"], INDEX["A0_y"]]] = 0.0
    if space.thickness_free:
        low, high = space.thickness_range
        vectors[:, INDEX["thickness"]] = rng.integers(low, min(high, max(low, THICKEST)) + 1, count)
    return vectors


def _turned(
    image: Float[np.ndarray, "large large"],
    places: Float[np.ndarray, "n 2"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "side side"], Float[np.ndarray, "m 2"]]:
    """A part of the image, turned and perhaps mirrored, and the places in it."""
    angle = np.radians(rng.uniform(-TURNED_DEG, TURNED_DEG) + 90.0 * rng.integers(4))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.uniform() < 0.5:
        turn = turn @ np.diag([1.0, -1.0])
    reach = SIDE / 2.0 * (np.cos(np.radians(TURNED_DEG)) + np.sin(np.radians(TURNED_DEG)))
    slack = len(image) / 2.0 - 1.0 - reach
    centre = (len(image) - 1) / 2.0 + rng.uniform(-1.0, 1.0, 2) * max(slack, 0.0)
    middle = (SIDE - 1) / 2.0
    grid = np.moveaxis(np.mgrid[:SIDE, :SIDE], 0, -1) - middle
    at = grid @ turn.T + centre
    part = map_coordinates(image, [at[..., 0], at[..., 1]], order=3, mode="nearest")
    where = (places - centre) @ turn + middle
    inside = np.all((where > -SIDE / 8) & (where < SIDE * 9 / 8), axis=1)
    return part, where[inside]
