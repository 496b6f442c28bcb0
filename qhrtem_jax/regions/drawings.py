"""Figures and tables of regions of interest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.reporting.column_tables import Count
from qhrtem_jax.reporting.columns import species_colours
from qhrtem_jax.reporting.figures import comparisons, save
from qhrtem_jax.reporting.numbers import fixed, with_error
from qhrtem_jax.reporting.page import Table

IMAGES = ("experiment", "simulation", "difference")

SHOWN = 16
"""So many regions are drawn; the numbers of all are in the tables."""


def region_montage(path: Path, arrays: Arrays, rois: Sequence[RegionEntry]) -> None:
    """Experiment, simulation and difference + 1 of the regions on one grey scale."""
    some = rois[:SHOWN]
    comparisons(
        path,
        arrays["experiment"][:SHOWN],
        arrays["simulation"][:SHOWN],
        [f"{roi.name}\n{roi.thickness_nm:.2f} nm" for roi in some],
        [f"MSE {1e3 * r.fit.mse:.2f}e-3\nNCC {100 * r.fit.ncc:.1f} %" for r in some],
        (1.35, 3.9),
    )


def count_maps(path: Path, rois: Sequence[RegionEntry], columns: Columns) -> None:
    """Numbers of atoms per column of every region; faint where the image cannot decide."""
    count = min(len(rois), SHOWN)
    across = min(count, 4)
    down = -(-count // across)
    figure = Figure(figsize=(3.0 * across, 2.2 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    for axis, roi in zip(axes, rois, strict=False):
        draw_counts(axis, roi, columns, np.zeros(2))
        axis.set(xlim=(0, columns.size_nm[0]), ylim=(columns.size_nm[1], 0), aspect="equal")
        axis.set_title(f"{roi.name}, {roi.thickness_nm:.2f} nm", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    species_legend(axes[0], columns)
    save(figure, path)


def draw_counts(
    axis: Axes,
    roi: RegionEntry,
    columns: Columns,
    corner_nm: Float[np.ndarray, " 2"],
    size: float = 8.0,
) -> None:
    """Circles in the colour of the species with the numbers of atoms in them.

    Species that share a column stand side by side; the fainter a circle, the less sure it is.
    """
    colours = species_colours(columns)
    width = np.array(columns.size_nm[:2])
    shared = {}
    for entry in roi.counts:
        shared.setdefault((entry.x, entry.y), []).append(entry)
    for (x, y), entries in shared.items():
        for k, entry in enumerate(entries):
            offset = 0.045 * (k - 0.5 * (len(entries) - 1))
            place = corner_nm + np.array([x, y]) * width + np.array([offset, 0.0])
            sure = entry.probability.get(str(entry.n), 0.0)
            colour = colours[entry.species]
            axis.plot(*place, "o", ms=1.7 * size, color=colour, alpha=0.2 + 0.6 * sure**2)
            axis.annotate(
                str(entry.n),
                (place[0], place[1]),
                ha="center",
                va="center",
                fontsize=0.85 * size,
            )


def species_legend(axis: Axes, columns: Columns) -> None:
    """Which colour is which species."""
    for symbol, colour in species_colours(columns).items():
        axis.plot([], [], "o", color=colour, label=symbol)
    axis.legend(loc="upper right", fontsize=8)


def regions_table(rois: Sequence[RegionEntry]) -> Table:
    """The report's table, like the paper's Table 2."""
    species = [f"{c.species} ({c.x:.3f}, {c.y:.3f})" for c in rois[0].counts]
    head = ["region", "thickness (nm)", "absorption (%)", "C1 (nm)", "MSE", "NCC (%)", *species]
    rows = []
    for roi in rois:
        known = roi.parameters
        absorption, c1 = known["absorption"], known["C1"]
        std = absorption.std
        rows.append(
            [
                roi.name,
                f"{roi.thickness_nm:.2f}",
                with_error(100 * absorption.value, None if std is None else 100 * std),
                with_error(c1.value, c1.std),
                f"{roi.fit.mse:.6f}",
                f"{100 * roi.fit.ncc:.2f}",
                *(_count(entry) for entry in roi.counts),
            ]
        )
    return Table("Regions", head, rows)


def intensities_table(rois: Sequence[RegionEntry]) -> Table:
    """Mean and standard deviation of experiment, simulation and difference, as in the paper's
    Table 2."""
    head = ["region", *(f"{what} of {of}" for of in IMAGES for what in ("mean", "std"))]
    rows = []
    for roi in rois:
        fit = roi.fit
        numbers = (
            *(fit.mean_exp, fit.std_exp, fit.mean_sim, fit.std_sim),
            *(fit.mean_diff, fit.std_diff),
        )
        rows.append([roi.name, *(fixed(n, 4) for n in numbers)])
    return Table("Intensities", head, rows)


def _count(entry: Count) -> str:
    sure = entry.probability.get(str(entry.n), 0.0)
    return str(entry.n) if sure > 0.995 else f"{entry.n} ({100 * sure:.0f} %)"
