"""Figures of columns: shifts, occupancies, numbers of atoms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.reporting.column_tables import Column
from qhrtem_jax.reporting.figures import save


def species_colours(columns: Columns) -> dict[str, str]:
    """A colour for each species, in the order of the columns."""
    weights: dict[str, int] = {}
    for chain in columns.chains:
        weights.setdefault(chain.symbol, len(weights))
    return {symbol: f"C{k}" for k, symbol in enumerate(weights)}


def _labels(columns: Columns) -> list[str]:
    """Species of each column, such as "BaO"."""
    return [
        "".join(c.symbol for c in columns.chains if c.column == k) for k in range(len(columns.xy))
    ]


def column_arrows(path: Path, table: Sequence[Column], columns: Columns) -> None:
    """Columns of the projected cell with their shifts as arrows, and occupancies with errors."""
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.2))
    colours = species_colours(columns)
    size = np.array(columns.size_nm[:2])
    scale = 0.012  # nm on the page per pm
    for k, (row, label) in enumerate(zip(table, _labels(columns), strict=True)):
        symbol = next(c.symbol for c in columns.chains if c.column == k)
        x, y = np.array([row.x, row.y]) * size
        left.plot(x, y, "o", ms=16, color=colours[symbol], alpha=0.5)
        left.annotate(label, (x, y - 0.022), ha="center", va="bottom", fontsize=8)
        left.annotate(
            "",
            (x + row.dx_pm * scale, y + row.dy_pm * scale),
            (x, y),
            arrowprops={"arrowstyle": "->", "lw": 1.5, "shrinkA": 0.0, "shrinkB": 0.0},
        )
        std = row.std_dx_pm, row.std_dy_pm
        text = f"{row.dx_pm:+.1f}, {row.dy_pm:+.1f}"
        if None not in std:
            text += f"\n±{std[0]:.1f}, {std[1]:.1f} pm"
        left.annotate(text, (x, y + 0.03), ha="center", va="top", fontsize=7)
    left.plot([0.02, 0.02 + 5 * scale], [-0.01, -0.01], "k-", lw=2)
    left.annotate("5 pm", (0.03 + 5 * scale, -0.01), va="center", fontsize=7)
    left.set(xlim=(0, size[0]), ylim=(size[1], -0.03), aspect="equal", xlabel="x (nm)")
    left.set_ylabel("y (nm)")
    _occupancies(right, table, colours)
    save(figure, path)


def _occupancies(axis: Axes, table: Sequence[Column], colours: dict[str, str]) -> None:
    names, values, errors, colour = [], [], [], []
    for row in table:
        for symbol, entry in row.occupancy.items():
            names.append(f"{symbol} ({row.x:.3f}, {row.y:.3f})")
            values.append(entry.value)
            errors.append(entry.std or 0.0)
            colour.append(colours[symbol])
    place = np.arange(len(names))
    axis.errorbar(values, place, xerr=errors, fmt="none", ecolor="0.4", capsize=3)
    for value, at, error, fill in zip(values, place, errors, colour, strict=True):
        # hollow: the image does not determine it
        axis.plot(value, at, "o", color=fill, mfc=fill if error else "white", zorder=3)
    axis.set_yticks(place, names, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(1.0, color="0.7", lw=1)
    axis.set_xlabel("occupancy ± standard error")
    axis.grid(alpha=0.3, axis="x")
