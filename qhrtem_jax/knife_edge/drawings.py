"""Figures of an mtf run."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qhrtem_jax.knife_edge.result import KnifeEdgeResult
from qhrtem_jax.reporting.figures import save


def draw_mtf(path: Path, result: KnifeEdgeResult) -> None:
    """The MTF with its standard error, and beside it what the square of a pixel does."""
    arrays = result.arrays
    frequency, value, std = (arrays[name] for name in ("frequency", "mtf", "mtf_std"))
    pixel = arrays["pixel"]
    apart = result.pixel == "apart"
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.fill_between(frequency, value - std, value + std, alpha=0.3, lw=0)
    label = "without the square of the pixels" if apart else "with the square of the pixels"
    axis.plot(frequency, value, label=label)
    other = "with it" if apart else "without it"
    axis.plot(frequency, value * pixel if apart else value / pixel, "--", lw=1, label=other)
    axis.plot(frequency, pixel, ":", color="0.4", lw=1, label="the square alone")
    axis.set_xlabel("frequency (1/pixel)")
    axis.set_ylabel("MTF")
    axis.set_xlim(0.0, 0.5)
    axis.set_ylim(min(0.0, float(np.min(value - std))), 1.05)
    axis.legend()
    save(figure, path)


def draw_edge(path: Path, result: KnifeEdgeResult) -> None:
    """The image, and the spreads of edge and line."""
    arrays = result.arrays
    figure = Figure(figsize=(13.0, 4.0), layout="constrained")
    picture, spread, line = figure.subplots(1, 3)
    shown = picture.imshow(arrays["image"], cmap="gray", interpolation="nearest")
    picture.set_title("image")
    figure.colorbar(shown, ax=picture)
    spread.plot(arrays["distance_px"], arrays["edge_spread"], lw=1)
    spread.set_title("edge spread")
    line.plot(arrays["line_distance_px"], arrays["line_spread"], lw=1)
    line.set_title("line spread")
    for axis in (spread, line):
        axis.set_xlabel("distance from the edge (pixels)")
    line.set_xlim(-8.0, 8.0)
    save(figure, path)
