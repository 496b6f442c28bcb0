"""Figure and table of what a refined field leaves over."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qhrtem_jax.field.result import RemainingBand, Remains
from qhrtem_jax.reporting.figures import save
from qhrtem_jax.reporting.page import Table


def remains_table(remains: Remains) -> Table:
    """Powers of the parts, against what the camera's noise leaves in each."""
    rows = []
    excess = [max(part.power - (part.noise or 0.0), 0.0) for part in remains.parts]
    whole, known = max(sum(excess), 1e-300), remains.parts[0].noise is not None
    for part, more in zip(remains.parts, excess, strict=True):
        noise = [] if part.noise is None else [f"{part.noise:.2e}"]
        rows.append([part.name, f"{part.power:.2e}", *noise, f"{100.0 * more / whole:.0f} %"])
    head = ["residual", "variance", *(["noise's before fits"] if known else []), "share"]
    of = " (share: of what exceeds the noise)" if known else ""
    return Table(f"What the refined field leaves over{of}", head, rows)


def draw_remains(path: Path, remains: Remains, parts: Float[np.ndarray, "parts rows cols"]) -> None:
    """Powers of the parts and over frequency, and the parts over the field."""
    rows, cols = parts.shape[1:]
    across = len(parts)
    height = 2.9 + min(10.0 / across * rows / cols, 8.0)
    figure = Figure(figsize=(10.0, height), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(2.7, height - 2.7))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    bars, spectrum = above.subplots(1, 2, width_ratios=(1, 1))
    _bars(bars, remains)
    _spectrum(spectrum, remains.bands)
    whole = parts.sum(axis=0)
    limit = 3.0 * float(np.std(whole[whole != 0.0]))
    axes = np.ravel(below.subplots(1, across))
    for axis, part, known in zip(axes, parts, remains.parts, strict=True):
        shown = axis.imshow(part, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(known.name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    below.colorbar(shown, ax=axes, label="simulation - experiment", shrink=0.8)
    save(figure, path)


def _bars(axis: Axes, remains: Remains) -> None:
    at = np.arange(len(remains.parts))
    axis.barh(at, [part.power for part in remains.parts], color="C0", label="residual")
    noise = [part.noise for part in remains.parts if part.noise is not None]
    if len(noise) == len(at):
        axis.barh(at, noise, height=0.4, color="0.75", label="the camera's noise before fits")
    axis.set_yticks(at, [part.name for part in remains.parts], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("variance (vacuum 1)")
    axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    axis.legend(fontsize=8)


def _spectrum(axis: Axes, bands: tuple[RemainingBand, ...]) -> None:
    edges = [*(band.from_per_nm for band in bands), bands[-1].to_per_nm]
    lines = [
        ("on the lattice's frequencies", [band.on_lattice or np.nan for band in bands], "C3", "-"),
        ("between them", [band.between for band in bands], "C0", "-"),
    ]
    noise = [band.noise for band in bands if band.noise is not None]
    if len(noise) == len(bands):
        lines.append(("the camera's noise before fits", noise, "0.5", ":"))
    for label, values, color, style in lines:
        axis.stairs(values, edges, baseline=None, label=label, color=color, ls=style, lw=1.5)
    axis.set_yscale("log")
    axis.set_xlabel("frequency (1/nm)")
    axis.set_ylabel("power (variance of white noise)", fontsize=8)
    axis.legend(fontsize=8)
