"""The page of a run that goes on: it shows how far the run has come, and loads itself again."""

import math
import time
from collections.abc import Callable, Sequence

import jinja2

from qhrtem_jax.io.journal import Progress
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting.report import part

EVERY_S = 4.0
"""Time between two pages, and after which a page loads itself again."""

MOST = 300
"""Points of the curve that is drawn."""

WIDE, HIGH = 600, 120
"""Of the curve."""


def live_page(
    folders: Sequence[RunFolder], step: str, report: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    """`report`, which besides writes `report.html` into the `folders`; `step` says which stage of
    how many."""
    best: list[tuple[float, float]] = []  # seconds, mean squared error
    written = [-EVERY_S]

    def tell(now: Progress) -> None:
        report(now)
        if 0.0 < now.best_mse < float("inf"):
            best.append((now.seconds, now.best_mse))
        if time.monotonic() - written[0] < EVERY_S:
            return
        written[0] = time.monotonic()
        text = _page(step, now, best)
        for folder in folders:
            folder.write_text("report.html", text)

    return tell


def _page(step: str, now: Progress, best: Sequence[tuple[float, float]]) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    known = now.best_mse < float("inf")
    share = now.evaluations / now.budget if now.budget else None
    left = None
    if share and now.phase == "search":
        left = round(now.seconds * (1.0 - share) / share)
    return environment.from_string(part("live.html")).render(
        step=step,
        now=now,
        best=f"{now.best_mse:.6f}" if known else None,
        share=share,
        left=left,
        curve=_curve(best),
        size=(WIDE, HIGH),
        every=int(EVERY_S) + 1,
        style=part("assets/page.css"),
    )


def _curve(best: Sequence[tuple[float, float]]) -> str:
    """Points of the best error over time, on a logarithmic scale, as SVG takes them."""
    shown = best[:: max(len(best) // MOST, 1)]
    if len(shown) < 2:
        return ""
    times, logs = [t for t, _ in shown], [math.log(mse) for _, mse in shown]
    wide, high = (max(values) - min(values) or 1.0 for values in (times, logs))
    return " ".join(
        f"{WIDE * (t - times[0]) / wide:.1f},{5 + (HIGH - 10) * (max(logs) - y) / high:.1f}"
        for t, y in zip(times, logs, strict=True)
    )
