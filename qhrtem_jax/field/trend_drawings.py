"""Figure and table of a field's trends."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from qhrtem_jax.field.result import Trend, TrendLine
from qhrtem_jax.reporting.figures import save
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.page import Table


def trend_table(trends: Sequence[Trend]) -> Table | None:
    """Means, slopes and their significance."""
    head = ["quantity", "mean (pm)", "scatter (pm)", "over", "slope (pm/nm)", "p"]
    rows = []
    for trend in trends:
        lines = ((trend.over_thickness, "thickness"), (trend.over_edge, "distance from the edge"))
        for line, over in lines:
            if line is None:
                continue
            rows.append(
                [
                    trend.quantity,
                    with_error(line.mean_pm, line.std_mean_pm),
                    f"{line.scatter_pm:.2f}",
                    over,
                    with_error(line.slope_pm_per_nm, line.std_slope_pm_per_nm),
                    f"{line.p_value:.2g}",
                ]
            )
    return Table("Trends over the regions (against the ideal cell)", head, rows) if rows else None


def draw_trends(path: Path, trends: Sequence[Trend]) -> None:
    """Each quantity over thickness and over the distance from the edge, with the line and its 95 %
    band (of its mean and slope)."""
    both = any(trend.edge_nm is not None for trend in trends)
    figure = Figure(figsize=(9.0 if both else 5.0, 2.3 * len(trends) + 0.4), layout="constrained")
    axes = figure.subplots(len(trends), 2 if both else 1, squeeze=False)
    for row, trend in zip(axes, trends, strict=True):
        _panel(row[0], trend, trend.thickness_nm, trend.over_thickness)
        row[0].set_title(trend.quantity, fontsize=9)
        if both and trend.edge_nm is not None:
            _panel(row[1], trend, trend.edge_nm, trend.over_edge)
    axes[-1][0].set_xlabel("thickness (nm)")
    if both:
        axes[-1][1].set_xlabel("distance from the edge (nm)")
    save(figure, path)


def _panel(axis: Axes, trend: Trend, at: Sequence[float], line: TrendLine | None) -> None:
    known = [k for k, std in enumerate(trend.std_pm) if std is not None]
    x, y = np.array(at)[known], np.array(trend.values_pm)[known]
    std = np.array([trend.std_pm[k] for k in known], dtype=float)
    axis.errorbar(x, y, std, fmt="o", ms=3, lw=1, capsize=2, color="C0")
    axis.axhline(0.0, color="0.7", lw=0.8, zorder=0)
    axis.set_ylabel("pm")
    if line is None:
        return
    along = np.linspace(x.min(), x.max(), 50)
    off = along - x.mean()
    mean = line.mean_pm + line.slope_pm_per_nm * off
    variance = line.std_mean_pm**2 + 2.0 * off * line.covariance_pm2_per_nm
    variance = variance + (off * line.std_slope_pm_per_nm) ** 2
    band = student.ppf(0.975, len(x) - 2) * np.sqrt(np.maximum(variance, 0.0))
    axis.plot(along, mean, color="C3", lw=1.2)
    axis.fill_between(along, mean - band, mean + band, color="C3", alpha=0.15, lw=0)
    slope = with_error(line.slope_pm_per_nm, line.std_slope_pm_per_nm)
    axis.annotate(
        f"{slope} pm/nm, p = {line.p_value:.2g}",
        (0.02, 0.96),
        xycoords="axes fraction",
        va="top",
        fontsize=8,
    )
