"""Figures and tables of a field."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure

from qhrtem_jax.field.result import FieldEntry
from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.scattering import atomic_number
from qhrtem_jax.regions.drawings import draw_counts, species_legend
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.columns import species_colours
from qhrtem_jax.reporting.figures import save
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.page import Table
from qhrtem_jax.reporting.result import Fit


def field_images(
    path: Path,
    arrays: Arrays,
    sampling_nm: tuple[float, float],
    fit: Fit,
) -> None:
    """Like the paper's Fig. 5 (b) to (e), all on one grey scale."""
    experiment = arrays["experiment"]
    best = arrays.get("simulation_refined", arrays["simulation"])
    panels = (
        ("experiment", experiment),
        (f"simulation\nNCC {100 * fit.ncc:.2f} %", best),
        ("difference + 1", best - experiment + 1.0),
        ("mean-adjusted + 1", arrays["difference_mean_adjusted"] + 1.0),
    )
    low, high = float(experiment.min()), float(experiment.max())
    rows, cols = experiment.shape
    height, width = rows * sampling_nm[0], cols * sampling_nm[1]
    figure = Figure(figsize=(14.0, 1.2 + 3.2 * max(0.5, height / width)), layout="constrained")
    axes = figure.subplots(1, 4)
    drawn = None
    for axis, (title, image) in zip(axes, panels, strict=True):
        extent = (0.0, width, height, 0.0)
        drawn = axis.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent)
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].plot([0.04 * width, 0.04 * width + 0.2], [0.96 * height] * 2, "w-", lw=3)
    axes[0].text(0.04 * width, 0.945 * height, "0.2 nm", color="white", fontsize=8, va="bottom")
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="intensity (vacuum = 1)")  # type: ignore[arg-type]
    save(figure, path)


def model_map(
    path: Path,
    rois: Sequence[FieldEntry],
    columns: Columns,
    sampling_nm: tuple[float, float],
    experiment: Shaped[np.ndarray, "rows cols"],
) -> None:
    """Like the paper's Figs. 2 (a) and 5 (a): the regions and every column of the field, with its
    numbers of atoms, on the image."""
    height, width = (n * s for n, s in zip(experiment.shape, sampling_nm, strict=True))
    scale = 4.2
    figure = Figure(figsize=(scale * width + 1.0, scale * height + 0.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(experiment, cmap="gray", extent=(0.0, width, height, 0.0))
    for roi in rois:
        corner = np.array(roi.origin_px[::-1]) * np.array(sampling_nm[::-1])
        draw_counts(axis, roi, columns, corner, size=7.0)
        box = np.array(columns.size_nm[:2])
        axis.add_patch(figures.rectangle(corner, box))
        axis.text(corner[0] + 0.02, corner[1] + 0.02, roi.name, color="w", fontsize=7, va="top")
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axis.set_xlabel("x (nm)")
    axis.set_ylabel("y (nm)")
    species_legend(axis, columns)
    save(figure, path)


def property_maps(path: Path, rois: Sequence[FieldEntry], columns: Columns) -> None:
    """Thickness, height of the exit surface, and displacement with its error, per region."""
    origins = np.array([r.origin_px for r in rois])
    rows, cols = (np.unique(origins[:, axis]) for axis in (0, 1))
    place = [(int(np.searchsorted(rows, r)), int(np.searchsorted(cols, c))) for r, c in origins]
    figure = Figure(figsize=(12.0, 1.6 + 0.9 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 3)
    exits = [
        np.nan if r.surfaces is None else max((s.last_slice or 0) for s in r.surfaces) for r in rois
    ]
    maps = (
        ("thickness (nm)", [r.thickness_nm for r in rois], "viridis", "%.2f"),
        ("exit surface (slice)", exits, "cividis", "%.0f"),
    )
    for axis, (title, values, cmap, text) in zip(axes, maps, strict=False):
        table = np.full((len(rows), len(cols)), np.nan)
        finite = [value for value in values if np.isfinite(value)]
        if not finite:  # of fields that were not refined
            axis.set_axis_off()
            continue
        middle = 0.5 * (min(finite) + max(finite))
        for (i, j), value in zip(place, values, strict=True):
            table[i, j] = value
            if np.isfinite(value):
                color = "black" if value > middle else "white"
                axis.annotate(
                    text % value, (j, i), ha="center", va="center", color=color, fontsize=8
                )
        shown = axis.imshow(table, cmap=cmap, aspect="auto")
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.colorbar(shown, ax=axis, shrink=0.8)
    _displacement_panel(axes[2], rois, place, (len(rows), len(cols)))
    save(figure, path)


def _displacement_panel(axis, rois: Sequence[FieldEntry], place, shape: tuple[int, int]) -> None:
    known = [(p, r.displacement) for p, r in zip(place, rois, strict=True) if r.displacement]
    if not known:
        axis.set_axis_off()
        return
    largest = max(np.hypot(d.mean.dx_pm, d.mean.dy_pm) for _, d in known) or 1.0
    for (i, j), moved in known:
        mean = moved.mean
        # the arrow keeps to the lower part of its cell, its numbers to the upper
        x, y = (0.25 * n / largest for n in (mean.dx_pm, mean.dy_pm))
        start, end = (j - x, i + 0.15 - y), (j + x, i + 0.15 + y)
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 2})
        axis.annotate(
            f"{mean.dx_pm:+.1f}, {mean.dy_pm:+.1f}\n±{mean.std_dx_pm:.1f}, {mean.std_dy_pm:.1f}",
            (j, i - 0.3),
            ha="center",
            va="center",
            fontsize=6,
        )
    axis.set(xlim=(-0.6, shape[1] - 0.4), ylim=(shape[0] - 0.4, -0.6))
    axis.set_xticks([])
    axis.set_yticks([])
    first = known[0][1]
    axis.set_title(f"{first.species} against {first.against}: x, y (pm)", fontsize=9)


def displacement_table(rois: Sequence[FieldEntry]) -> Table | None:
    """Displacement and, where charges are given, polarisation of each region's cell."""
    head = ["region", "dx (pm)", "dy (pm)", "Px (uC/cm2)", "Py (uC/cm2)"]
    rows = []
    for roi in rois:
        if roi.displacement is None:
            continue
        mean, polar = roi.displacement.mean, roi.polarisation_uC_cm2
        row = [roi.name, with_error(mean.dx_pm, mean.std_dx_pm)]
        row += [with_error(mean.dy_pm, mean.std_dy_pm)]
        if polar is None:
            row += ["", ""]
        else:
            row += [with_error(polar.Px, polar.std_Px), with_error(polar.Py, polar.std_Py)]
        rows.append(row)
    return Table("Displacements and polarisation", head, rows) if rows else None


MOST_DRAWN = 20_000
"""Atoms of a figure; of a larger model, so many are drawn at random."""


def model_views(path: Path, model: AtomModel, columns: Columns) -> None:
    """Like the paper's Fig. 3 (f): the model in perspective, and from the side, along x and y; the
    beam goes down."""
    some = np.random.default_rng(0).permutation(len(model.atoms.symbols))[:MOST_DRAWN]
    symbols = np.array(model.atoms.symbols)[some]
    place = (model.atoms.positions * np.array(model.size_nm))[some]
    colours = species_colours(columns)
    figure = Figure(figsize=(9.5, 5.5), layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=(1.6, 1.0, 1.0))
    solid = figure.add_subplot(grid[0], projection="3d")
    sides = [figure.add_subplot(grid[k]) for k in (1, 2)]
    for symbol, colour in colours.items():
        x, y, z = place[symbols == symbol].T
        size = 3.0 * atomic_number(symbol) ** 0.5
        solid.scatter(x, y, z, s=size, c=colour, depthshade=True, label=symbol)
        for axis, along in zip(sides, (x, y), strict=True):
            axis.scatter(along, z, s=size, color=colour, alpha=0.4, lw=0)
    extent = np.ptp(place, axis=0) + 0.1
    solid.set_box_aspect(extent)
    solid.view_init(elev=20.0, azim=-60.0)
    solid.invert_zaxis()
    for set_label, name in (
        (solid.set_xlabel, "x (nm)"),
        (solid.set_ylabel, "y (nm)"),
        (solid.set_zlabel, "z (nm)"),
    ):
        set_label(name, fontsize=8)
    solid.tick_params(labelsize=7)
    solid.locator_params(axis="x", nbins=3)
    solid.locator_params(axis="y", nbins=3)
    solid.legend(fontsize=8, loc="upper left")
    for axis, name, other in zip(sides, "xy", "yx", strict=True):
        axis.set(xlabel=f"{name} (nm)", ylabel="z (nm)", aspect="equal")
        axis.invert_yaxis()
        axis.locator_params(axis="x", nbins=3)
        axis.set_title(f"seen along {other}", fontsize=9)
    save(figure, path)
