"""Figures of a simulate run."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from qhrtem_jax.reporting.figures import save

SHOWN = 3
"""Patterns of the table that are drawn."""

DECADES = 8
"""Below the brightest beam."""


def draw_diffraction(
    path: Path,
    patterns: Float[np.ndarray, "n rows cols"],
    elastic: Float[np.ndarray, "n rows cols"] | None,
    step_per_nm: tuple[float, float],
) -> None:
    """The first patterns, logarithmic, and their mean over rings."""
    shown = patterns[:SHOWN]
    figure = Figure(figsize=(4.6 * len(shown) + 5.0, 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    rows, cols = patterns.shape[1:]
    y, x = rows // 2, cols // 2
    extent = (
        (-x - 0.5) * step_per_nm[1],
        (cols - x - 0.5) * step_per_nm[1],
        (rows - y - 0.5) * step_per_nm[0],
        (-y - 0.5) * step_per_nm[0],
    )
    top = float(np.log10(shown.max()))
    for number, pattern in enumerate(shown):
        axis = axes[number]
        seen = axis.imshow(
            np.log10(np.maximum(pattern, 1e-30)),
            cmap="magma",
            vmin=top - DECADES,
            vmax=top,
            extent=extent,
            interpolation="nearest",
        )
        axis.set_title(f"row {number + 1}", fontsize=9)
        axis.set_xlabel("q along x (1/nm)")
        axis.set_ylabel("q along y (1/nm)")
    figure.colorbar(seen, ax=axes[:-1].tolist(), label="log10 of intensity (incident beam 1)")
    last = axes[-1]
    for number, pattern in enumerate(shown):
        q, mean = rings(pattern, step_per_nm)
        last.semilogy(q, mean, color=f"C{number}", label=f"row {number + 1}")
        if elastic is not None:
            diffuse = rings(pattern - elastic[number], step_per_nm)[1]
            last.semilogy(q, diffuse, "--", color=f"C{number}", label=f"row {number + 1}, diffuse")
    last.set_xlabel("|q| (1/nm)")
    last.set_ylabel("mean over rings, per pixel")
    last.set_ylim(10.0 ** (top - DECADES - 1), 10.0 ** (top + 0.3))
    last.legend(fontsize=8)
    save(figure, path)


def rings(
    pattern: Float[np.ndarray, "rows cols"], step_per_nm: tuple[float, float]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Middles of rings as wide as a pixel, 1/nm, as far as all of a ring is in the pattern, and the
    mean intensity of a pixel there; the middle of the pattern is its zero frequency."""
    rows, cols = pattern.shape
    q_y = (np.arange(rows) - rows // 2) * step_per_nm[0]
    q_x = (np.arange(cols) - cols // 2) * step_per_nm[1]
    width = max(step_per_nm)
    number = np.rint(np.hypot(q_y[:, None], q_x) / width).astype(int)
    whole = int(min(q_y[-1], q_x[-1]) / width)
    inside = number <= whole
    sums = np.bincount(number[inside], pattern[inside], whole + 1)
    return width * np.arange(whole + 1), sums / np.bincount(number[inside], minlength=whole + 1)
