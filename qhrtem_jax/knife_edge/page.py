"""The page of an mtf run."""

from qhrtem_jax.knife_edge.drawings import draw_edge, draw_mtf
from qhrtem_jax.knife_edge.result import KnifeEdgeResult
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.page import Drawing, Page, Table


def page(result: KnifeEdgeResult) -> Page:
    """The MTF, and the spreads that it comes from."""
    edge, nyquist = result.edge, result.mtf[-1]
    own = "without" if result.pixel == "apart" else "with"
    last = f"{with_error(nyquist.value, nyquist.std)} at Nyquist"
    return Page(
        "MTF of a camera",
        f"MTF {last}, {own} the square of the pixels; an edge of {edge.length_px} pixels, inclined "
        f"by {edge.angle_deg:.2f} degrees against the {edge.along}.",
        (
            Drawing("mtf", "Modulation transfer", lambda path: draw_mtf(path, result)),
            Drawing(
                "edge",
                "The edge, its spread, and the derivative of that",
                lambda path: draw_edge(path, result),
            ),
        ),
        (
            Table(
                "MTF",
                ["frequency (1/pixel)", "MTF"],
                [[f"{p.frequency:.4f}", with_error(p.value, p.std)] for p in result.mtf],
            ),
        ),
        said=(f"MTF {last}: mtf.csv",),
    )
