"""Figures of an explore run."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qhrtem_jax.exploration.result import ExplorationResult
from qhrtem_jax.reporting.figures import save


def _extent(result: ExplorationResult) -> tuple[float, float, float, float]:
    """Pixels of the image that a map of windows covers."""
    rows, cols = result.arrays["rows"], result.arrays["cols"]
    y, x = (np.ptp(n) / max(len(n) - 1, 1) / 2.0 for n in (rows, cols))
    return cols[0] - x, cols[-1] + x, rows[-1] + y, rows[0] - y


def _pixels(axis: Axes, result: ExplorationResult) -> None:
    rows, cols = result.arrays["image"].shape
    axis.set_xlim(-0.5, cols - 0.5)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.set_xlabel("x (pixels)")
    axis.set_ylabel("y (pixels)")


def draw_target(path: Path, result: ExplorationResult) -> None:
    """The image, the target over it, and the way of the beam."""
    arrays = result.arrays
    figure = Figure(figsize=(13.0, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    low, high = np.quantile(arrays["image"], (0.005, 0.995))
    for axis in axes:
        axis.imshow(arrays["image"], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        _pixels(axis, result)
    axes[0].set_title("image")
    if "columns_px" in arrays:
        axes[0].plot(*arrays["columns_px"].T[::-1], ".", ms=1.5, color="C1")
        axes[0].set_title(f"image, {len(arrays['columns_px'])} columns found")
    shown = axes[1].imshow(
        arrays["target"], cmap="viridis", extent=_extent(result), alpha=0.75, vmin=0.0, vmax=1.0
    )
    axes[1].set_title(f"target: map {result.explore.component}")
    figure.colorbar(shown, ax=axes[1], shrink=0.8, label="anomaly (largest 1)")
    y, x = arrays["points_px"].T
    axes[2].plot(x, y, "-", lw=0.5, color="C0")
    axes[2].scatter(x, y, c=np.arange(len(x)), cmap="plasma", s=9)
    axes[2].set_title(f"{len(x)} points, first to last")
    save(figure, path)


def draw_steps(path: Path, result: ExplorationResult) -> None:
    """Reconstructions on the way, and the last one's standard deviation."""
    stages, arrays = result.seen_after, result.arrays
    figure = Figure(figsize=(3.1 * (len(stages) + 2), 3.2), layout="constrained")
    axes = figure.subplots(1, len(stages) + 2)
    low, high = float(arrays["target"].min()), float(arrays["target"].max())
    points = arrays["points_px"]
    for axis, (count, mean) in zip(axes, stages, strict=False):
        axis.imshow(mean, cmap="viridis", extent=_extent(result), vmin=low, vmax=high)
        axis.plot(points[:count, 1], points[:count, 0], ".", ms=2, color="w")
        axis.set_title(f"after {count} points", fontsize=9)
    shown = axes[-2].imshow(
        arrays["target"], cmap="viridis", extent=_extent(result), vmin=low, vmax=high
    )
    axes[-2].set_title("target", fontsize=9)
    figure.colorbar(shown, ax=axes[-2], shrink=0.8)
    shown = axes[-1].imshow(arrays["uncertainty"], cmap="magma", extent=_extent(result))
    axes[-1].set_title("standard deviation", fontsize=9)
    figure.colorbar(shown, ax=axes[-1], shrink=0.8)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    save(figure, path)


def draw_progress(path: Path, result: ExplorationResult) -> None:
    """What each step says."""
    steps = result.explore.steps
    points = [step.points for step in steps]
    figure = Figure(figsize=(10.0, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    if steps[0].ssim is not None:
        left.plot(points, [step.ssim for step in steps], ".-")
    left.set_ylabel("SSIM with the target")
    middle.plot(points, [step.uncertainty for step in steps], ".-", label="standard deviation")
    if steps[0].found is not None:
        middle.plot(points, [step.found for step in steps], ".-", label="share found")
    middle.legend(fontsize=8)
    right.plot(points, [step.way_px for step in steps], ".-")
    right.set_ylabel("way (pixels)")
    for axis in (left, middle, right):
        axis.set_xlabel("points")
        axis.grid(alpha=0.3)
    save(figure, path)


def draw_maps(path: Path, result: ExplorationResult) -> None:
    """All maps that the target was chosen from."""
    maps = result.arrays["maps"]
    across = min(len(maps), 4)
    down = -(-len(maps) // across)
    figure = Figure(figsize=(3.0 * across, 2.9 * down), layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for k, (axis, found) in enumerate(zip(axes, maps, strict=False)):
        axis.imshow(found, cmap="viridis", extent=_extent(result))
        own = ", the target" if k == result.explore.component else ""
        axis.set_title(f"map {k}{own}", fontsize=9)
    save(figure, path)
