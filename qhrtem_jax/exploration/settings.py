"""Options of stage `explore`."""

import dataclasses
import typing

from qhrtem_jax.bayesopt.candidates import UTILITIES
from qhrtem_jax.bayesopt.kernels import KERNELS
from qhrtem_jax.exploration.unmixing import UNMIXING
from qhrtem_jax.inputs.settings import Settings

FFT_NMF, FFT_RVAE, ATOMS_RVAE = WORKFLOWS = ("fft_nmf", "fft_rvae", "atoms_rvae")


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """What is looked for in an image, and how a beam would look for it; see configs/explore."""

    workflow: str = FFT_NMF
    unmixing: str = "nmf"
    window_px: int | None = None
    components: int = 4
    component: int | None = None
    reference: tuple[int, int, int, int] | None = None
    acquisition: str = "ei"
    kernel: str = "matern52"
    length_px: float | None = None
    beta: float = 4.0
    points: int = 200
    batch: int = 10
    path_cost: float = 0.0
    truth: str | None = None
    epochs: int = 80
    training_images: int = 128

    INPUTS: typing.ClassVar = ("truth",)
    CHOICES: typing.ClassVar = {
        "workflow": WORKFLOWS,
        "unmixing": tuple(UNMIXING),
        "acquisition": tuple(UTILITIES),
        "kernel": tuple(KERNELS),
    }
    RANGES: typing.ClassVar = {
        "window_px": (8, 1024),
        "components": (2, 32),
        "component": (0, 31),
        "reference": (0, 1_000_000),
        "length_px": (0.1, 1e5),
        "beta": (0.0, 1e4),
        "points": (2, 1000),
        "batch": (1, 200),
        "path_cost": (0.0, 100.0),
        "epochs": (1, 10_000),
        "training_images": (16, 100_000),
    }


@dataclasses.dataclass(frozen=True)
class ExplorationSettings(Settings):
    """Settings of a run."""

    explore: ExploreOptions = dataclasses.field(default_factory=ExploreOptions)
