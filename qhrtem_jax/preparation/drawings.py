"""Figures of stage `prepare`."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from qhrtem_jax.preparation.result import PreparationResult
from qhrtem_jax.reporting.figures import rectangle, save


def cells_on_image(path: Path, result: PreparationResult) -> None:
    """The cells over the micrograph, with the vacuum and the bad pixels."""
    image = result.arrays["experiment"]
    rows, cols = image.shape
    height, width = result.lattice.sampling_nm
    aspect = height / width
    figure = Figure(figsize=(8.0, 8.0 * aspect * rows / cols + 0.4), layout="constrained")
    axis = figure.subplots()
    low, high = np.percentile(image, (0.5, 99.5))
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect)
    for roi in result.rois:
        corners = np.array(roi.corners_px)
        axis.add_patch(Polygon(corners, closed=True, fill=False, ec="C1", lw=0.8))
        axis.text(
            float(corners[0, 0]),
            float(corners[0, 1]),
            roi.name.removeprefix("ROI"),
            color="C1",
            fontsize=6,
            va="top",
            ha="left",
        )
    if result.vacuum is not None:
        row, col, high_px, wide = result.vacuum.region
        box = rectangle(np.array([col, row], float), np.array([wide, high_px], float))
        box.set_edgecolor("C0")
        axis.add_patch(box)
    bad_rows, bad_cols = np.nonzero(result.arrays["bad"])
    axis.plot(bad_cols, bad_rows, "x", color="C3", ms=4)
    first = np.array(result.rois[0].corners_px[0])
    for vector, name in ((result.lattice.a_px, "a"), (result.lattice.b_px, "b")):
        x, y = (float(n) for n in first + np.array(vector))
        arrow = {"arrowstyle": "->", "color": "C2", "lw": 1.5}
        axis.annotate("", (x, y), (float(first[0]), float(first[1])), arrowprops=arrow)
        axis.annotate(name, (x, y), color="C2", fontsize=9)
    bar = 0.5 / width
    edged = [withStroke(linewidth=2.5, foreground="black")]  # to be seen on bright columns, too
    ends = [0.03 * cols, 0.03 * cols + bar]
    axis.plot(ends, [0.97 * rows] * 2, color="white", lw=3, path_effects=edged)
    axis.text(ends[0], 0.955 * rows, "0.5 nm", color="white", fontsize=8, path_effects=edged)
    axis.set_xlim(-0.5, cols - 0.5)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.set_title("cells (orange), vacuum (blue), bad pixels (red), a and b (green)", fontsize=9)
    save(figure, path)
