"""The page of a simulate run."""

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.viewer import Layer, Viewer
from qhrtem_jax.simulation.drawings import draw_diffraction
from qhrtem_jax.simulation.result import SimulationResult

SHOWN = 12
"""Images that a page shows."""


def page(result: SimulationResult) -> Page:
    """The first images, and diffraction patterns where there are some."""
    images, sampling = result.arrays["image"], result.settings.data.sampling
    titles = [f"row {number}" for number in range(1, len(images[:SHOWN]) + 1)]
    drawings = [
        Drawing(
            "images",
            "The first images",
            lambda path: figures.montage(path, images, sampling, titles),
        )
    ]
    patterns = result.diffraction
    if patterns is not None:
        arrays = result.arrays
        drawings.append(
            Drawing(
                "diffraction",
                "The first diffraction patterns, and their means over rings",
                lambda path: draw_diffraction(
                    path,
                    arrays["diffraction"],
                    arrays.get("diffraction_elastic"),
                    patterns.step_per_nm,
                ),
            )
        )
    return Page(
        "Simulated images",
        _summary(result),
        tuple(drawings),
        viewer=Viewer(
            tuple(Layer(f"row {k + 1}", image) for k, image in enumerate(images[:SHOWN])), sampling
        ),
    )


def _summary(result: SimulationResult) -> str:
    said = f"{result.images} images, mean intensity {result.intensity.mean:.4f}."
    phonons, patterns = result.phonons, result.diffraction
    if phonons.standard_error is not None and phonons.cells is not None:
        said += (
            f" Means over {phonons.configurations} displaced lattices of {phonons.cells[0]} x "
            f"{phonons.cells[1]} cells; standard error {phonons.standard_error:.1e} rms at most."
        )
    if patterns is not None:
        said += f" Of the incident beam, {100.0 * patterns.total:.2f} % is in the patterns"
        said += f", {100.0 * patterns.elastic:.2f} % elastic." if phonons.cells else "."
    return said
