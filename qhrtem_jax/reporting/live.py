"""The page of a run that goes on: it shows how far the run has come, and loads itself again."""

import base64
import io
import math
import time
from collections.abc import Callable, Sequence

import jinja2
import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.image import imsave

from qhrtem_jax.io.journal import Picture, Progress
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting.report import part

EVERY_S = 4.0
"""Time between two pages, and after which a page loads itself again."""

MOST = 300
"""Points of the curve that is drawn."""

MOST_REGIONS = 8
"""Regions of a picture."""

WIDE, HIGH = 600, 120
"""Of the curve."""


def live_page(
    folders: Sequence[RunFolder], step: str, report: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    """`report`, which besides writes `report.html` into the `folders`; `step` says which stage of
    how many."""
    best: list[tuple[float, float]] = []  # seconds, mean squared error
    written = [-EVERY_S]
    picture: list[Picture | None] = [None]

    def tell(now: Progress) -> None:
        report(now)
        if 0.0 < now.best_mse < float("inf"):
            best.append((now.seconds, now.best_mse))
        if time.monotonic() - written[0] < EVERY_S:
            return
        if now.picture is not None:
            picture[0] = now.picture()
        text = _page(step, now, best, picture[0])
        written[0] = time.monotonic()  # a picture takes time, too
        for folder in folders:
            with folder.open("report.html", durable=False) as file:
                file.write(text.encode("utf-8"))

    return tell


def _page(
    step: str, now: Progress, best: Sequence[tuple[float, float]], picture: Picture | None
) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    known = now.best_mse < float("inf")
    left = now.left_s
    return environment.from_string(part("live.html")).render(
        step=step,
        now=now,
        best=f"{now.best_mse:.6f}" if known else None,
        share=now.share,
        left=None if left is None else round(left),
        picture=_drawn(*picture) if picture is not None else None,
        curve=_curve(best),
        size=(WIDE, HIGH),
        every=int(EVERY_S) + 1,
        style=part("assets/page.css"),
    )


def _curve(best: Sequence[tuple[float, float]]) -> str:
    """Points of the best error over time, on a logarithmic scale, as SVG takes them."""
    shown = [*best[:: max(len(best) // MOST, 1)], *best[-1:]]
    if len(shown) < 2:
        return ""
    times, logs = [t for t, _ in shown], [math.log(mse) for _, mse in shown]
    wide, high = (max(values) - min(values) or 1.0 for values in (times, logs))
    return " ".join(
        f"{WIDE * (t - times[0]) / wide:.1f},{5 + (HIGH - 10) * (max(logs) - y) / high:.1f}"
        for t, y in zip(times, logs, strict=True)
    )


def _drawn(
    experiment: Float[np.ndarray, "*regions rows cols"],
    simulation: Float[np.ndarray, "*regions rows cols"],
) -> str:
    """Experiment, simulation and difference below each other, regions side by side, on one grey
    scale: a PNG, in base 64."""
    rows = [experiment, simulation, simulation - experiment + 1.0]
    lines = []
    for images in rows:
        several = images.reshape(-1, *images.shape[-2:])[:MOST_REGIONS]
        framed = np.pad(several, ((0, 0), (0, 2), (0, 2)), constant_values=np.nan)
        lines.append(np.concatenate(list(framed), axis=1))
    low, high = float(np.nanmin(experiment)), float(np.nanmax(experiment))
    file = io.BytesIO()
    grey = colormaps["gray"].with_extremes(bad="white")
    imsave(file, np.concatenate(lines), cmap=grey, vmin=low, vmax=high, format="png")
    return base64.b64encode(file.getvalue()).decode("ascii")
