"""The page of a simulate run."""

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.viewer import Layer, Viewer
from qhrtem_jax.simulation.result import SimulationResult

SHOWN = 12
"""Images that a page shows."""


def page(result: SimulationResult) -> Page:
    """The first images."""
    images, sampling = result.arrays["image"], result.settings.data.sampling
    return Page(
        "Simulated images",
        f"{result.images} images, mean intensity {result.intensity.mean:.4f}.",
        (
            Drawing(
                "images", "The first images", lambda path: figures.montage(path, images, sampling)
            ),
        ),
        viewer=Viewer(
            tuple(Layer(f"row {k + 1}", image) for k, image in enumerate(images[:SHOWN])), sampling
        ),
    )
