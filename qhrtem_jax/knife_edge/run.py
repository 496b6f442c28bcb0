"""Stage `mtf`: the modulation transfer function of a camera."""

import numpy as np

from qhrtem_jax.io.journal import Journal
from qhrtem_jax.knife_edge.problem import KnifeEdgeProblem
from qhrtem_jax.knife_edge.result import KnifeEdge, KnifeEdgeResult, Point
from qhrtem_jax.reporting.result import header

IN_RESULT = 8
"""Every so many of the frequencies are in `result.json`."""


def run(problem: KnifeEdgeProblem, journal: Journal) -> KnifeEdgeResult:
    """The MTF in the form that is asked for."""
    edge, transfer, settings = problem.edge, problem.transfer, problem.settings
    apart = transfer.pixel if settings.mtf.pixel == "apart" else np.ones_like(transfer.pixel)
    value, std = transfer.value / apart, transfer.std / apart
    points = zip(transfer.frequency, value, std, strict=True)
    return KnifeEdgeResult(
        **header(settings, problem.reader),
        warnings=problem.warnings,
        edge=KnifeEdge(
            edge.angle_deg,
            "rows" if edge.turned else "columns",
            edge.dark,
            edge.bright,
            edge.rows[1] - edge.rows[0],
            transfer.reach_px,
        ),
        pixel=settings.mtf.pixel,
        mtf=tuple(Point(*map(float, point)) for point in list(points)[::IN_RESULT]),
        cost=journal.cost(),
        arrays={
            "image": problem.image.astype(np.float32),
            "frequency": transfer.frequency,
            "mtf": value,
            "mtf_std": std,
            "pixel": transfer.pixel,
            "distance_px": transfer.distance_px,
            "edge_spread": transfer.edge_spread,
            "line_distance_px": transfer.line_distance_px,
            "line_spread": transfer.line_spread,
        },
        tables={
            "mtf": (
                ["frequency_per_pixel", "mtf"],
                [
                    [f"{f:.8f}", f"{max(v, 0.0):.6f}"]
                    for f, v in zip(transfer.frequency, value, strict=True)
                ],
            )
        },
    )
