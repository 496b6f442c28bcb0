"""The microscope and the grids of a run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.physics.autogrid import GridChoice, choose_grids
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator, make_simulator
from qhrtem_jax.physics.specimen import Crystal


def load_microscope(settings: Settings, reader: Reader) -> Microscope:
    """The instrument with its camera; a missing MTF is a warning."""
    known, name, scale = settings.microscope, settings.data.mtf, settings.data.mtf_scale
    mtf = None
    if name is not None:
        with named("data.mtf"):
            mtf = reader.once(("mtf", name, scale), lambda: read_mtf(Path(name), scale, "data.mtf"))
    else:
        reader.warn("no data.mtf given: the camera is taken as perfect but for its pixels")
    return Microscope(
        high_tension_kv=known.high_tension_kv,
        aberration_convention=known.aberration_convention,
        coherence=known.coherence,
        compatibility=known.compatibility,
        mtf=mtf,
    )


def choose_grid(
    settings: Settings,
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    vectors: Float[np.ndarray, "n parameters"],
    slices: int,
    *,
    reduce_image: bool = True,
) -> GridChoice:
    """The grids of a run: as given, or `auto` for what `vectors` span.

    `reduce_image`: with a given grid, still form images on a coarser grid of the same error.
    """
    wanted = settings.specimen.grid
    if isinstance(wanted, tuple) and not reduce_image:
        return GridChoice(wanted, wanted, microscope.source, None)
    return choose_grids(
        crystal,
        microscope,
        frame,
        vectors=vectors,
        slices=slices,
        scattering=settings.specimen.scattering,
        thermal_absorption=settings.specimen.thermal_absorption,
        error=settings.specimen.grid_error,
        grid=wanted if isinstance(wanted, tuple) else None,
    )


def spanning_vectors(
    space: ParameterSpace, seed: int, count: int = 6
) -> Float[np.ndarray, "count parameters"]:
    """Parameter vectors spread over what will be simulated, for the choice of grids."""
    rng = np.random.default_rng(seed)
    vectors = np.tile(space.base, (count, 1))
    fitted = space.fitted.space
    unit = rng.uniform(size=(count, len(fitted)))
    vectors[:, [INDEX[name] for name in fitted.names]] = fitted.low + unit * fitted.width
    low, high = space.thickness_range
    vectors[:, INDEX["thickness"]] = np.rint(np.linspace(low, high, count))
    return vectors


def simulated_as(
    settings: Settings, choice: GridChoice, cells: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    """What every simulator is told alike, of `cells` (rows, cols) taken as one."""
    (rows, cols), grid, image = cells, choice.grid, choice.image
    return {
        "grid_shape": (rows * grid[0], cols * grid[1]),
        "image_shape": (rows * image[0], cols * image[1]),
        "scattering": settings.specimen.scattering,
        "precision": settings.precision,
        "source": choice.source,
    }


def build_simulator(
    settings: Settings,
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    choice: GridChoice,
    slices: int,
) -> Simulator:
    """The simulator of a run."""
    return make_simulator(
        crystal,
        microscope,
        frame,
        slices=slices,
        thermal_absorption=settings.specimen.thermal_absorption,
        # a CPU works best on one image at a time (its cache), a GPU on many
        batch=1 if jax.default_backend() == "cpu" else 32,
        **simulated_as(settings, choice),
    )
