"""Figures and report of a stitched field."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qhrtem_jax.field.stitch import StitchProblem
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.figures import save
from qhrtem_jax.reporting.history import read_history
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.regions import draw_counts, regions_table, species_legend
from qhrtem_jax.reporting.report import render


def write(
    folder: RunFolder,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    task: StitchProblem,
) -> None:
    """Write figures/*.png and report.html into the run folder."""
    regions = task.regions
    sampling = regions.field.frame.sampling_nm
    columns, rois = regions.specimen.columns, result["rois"]
    drawn = [("field", "The field: experiment, simulation, difference, mean-adjusted difference")]
    field_images(folder.figure_path("field"), arrays, sampling, result["field"])
    drawn.append(("model", "Numbers of atoms over the field (faint: the image cannot decide)"))
    model_map(folder.figure_path("model"), rois, columns, sampling, arrays["experiment"].shape)
    drawn.append(("maps", "Thickness, exit surface, and displacement of the cations"))
    property_maps(folder.figure_path("maps"), rois, columns)
    drawn.append(("convergence", "Convergence"))
    history = read_history(folder)
    figures.convergence(folder.figure_path("convergence"), history, result["noise"]["variance"])
    stitched, refined = result["field"]["fit"], result["field"].get("fit_refined")
    summary = f"Stitched: MSE {stitched['mse']:.6f}, NCC {100 * stitched['ncc']:.2f} %."
    if refined is not None:
        summary += f" Refined: MSE {refined['mse']:.6f}, NCC {100 * refined['ncc']:.2f} %."
    tables = [("Regions", *regions_table(rois))]
    moved = displacement_table(rois)
    if moved is not None:
        tables.append(("Displacements and polarisation", *moved))
    page = render("The field in three dimensions", summary, result, drawn, tables)
    folder.write_text("report.html", page)


def field_images(
    path: Path,
    arrays: dict[str, np.ndarray],
    sampling_nm: tuple[float, float],
    field: dict[str, Any],
) -> None:
    """Like the paper's Fig. 5 (b) to (e), all on one grey scale."""
    experiment = arrays["experiment"]
    best = arrays.get("simulation_refined", arrays["simulation"])
    fit = field.get("fit_refined", field["fit"])
    panels = (
        ("experiment", experiment),
        (f"simulation\nNCC {100 * fit['ncc']:.2f} %", best),
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
    rois: list[dict[str, Any]],
    columns: Columns,
    sampling_nm: tuple[float, float],
    shape: tuple[int, ...],
) -> None:
    """Like the paper's Fig. 5 (a): every column of the field with its numbers of atoms."""
    height, width = shape[0] * sampling_nm[0], shape[1] * sampling_nm[1]
    scale = 4.2
    figure = Figure(figsize=(scale * width + 1.0, scale * height + 0.8), layout="constrained")
    axis = figure.subplots()
    for roi in rois:
        corner = np.array(roi["origin_px"][::-1]) * np.array(sampling_nm[::-1])
        draw_counts(axis, roi, columns, corner, size=7.0)
        box = np.array(columns.size_nm[:2])
        axis.add_patch(figures.rectangle(corner, box))
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axis.set_xlabel("x (nm)")
    axis.set_ylabel("y (nm)")
    species_legend(axis, columns)
    save(figure, path)


def property_maps(path: Path, rois: list[dict[str, Any]], columns: Columns) -> None:
    """Thickness, height of the exit surface, and displacement with its error, per region."""
    origins = np.array([r["origin_px"] for r in rois])
    rows, cols = (np.unique(origins[:, axis]) for axis in (0, 1))
    place = [(int(np.searchsorted(rows, r)), int(np.searchsorted(cols, c))) for r, c in origins]
    figure = Figure(figsize=(12.0, 1.6 + 0.9 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 3)
    exits = [
        max((s["last_slice"] or 0) for s in r["surfaces"]) if "surfaces" in r else np.nan
        for r in rois
    ]
    maps = (
        ("thickness (nm)", [r["thickness_nm"] for r in rois], "viridis", "%.2f"),
        ("exit surface (slice)", exits, "cividis", "%.0f"),
    )
    for axis, (title, values, cmap, text) in zip(axes, maps, strict=False):
        table = np.full((len(rows), len(cols)), np.nan)
        middle = 0.5 * (np.nanmin(values) + np.nanmax(values))
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


def _displacement_panel(axis, rois: list[dict[str, Any]], place, shape: tuple[int, int]) -> None:
    known = [
        (p, r["displacement"]) for p, r in zip(place, rois, strict=True) if r.get("displacement")
    ]
    if not known:
        axis.set_axis_off()
        return
    largest = max(np.hypot(d["mean"]["dx_pm"], d["mean"]["dy_pm"]) for _, d in known) or 1.0
    for (i, j), moved in known:
        mean = moved["mean"]
        # the arrow keeps to the lower part of its cell, its numbers to the upper
        x, y = (0.25 * mean[k] / largest for k in ("dx_pm", "dy_pm"))
        start, end = (j - x, i + 0.15 - y), (j + x, i + 0.15 + y)
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 2})
        axis.annotate(
            f"{mean['dx_pm']:+.1f}, {mean['dy_pm']:+.1f}\n"
            f"±{mean['std_dx_pm']:.1f}, {mean['std_dy_pm']:.1f}",
            (j, i - 0.3),
            ha="center",
            va="center",
            fontsize=6,
        )
    axis.set(xlim=(-0.6, shape[1] - 0.4), ylim=(shape[0] - 0.4, -0.6))
    axis.set_xticks([])
    axis.set_yticks([])
    first = known[0][1]
    axis.set_title(f"{first['species']} against {first['against']}: x, y (pm)", fontsize=9)


def displacement_table(
    rois: list[dict[str, Any]],
) -> tuple[list[str], list[list[str]]] | None:
    """Displacement and, where charges are given, polarisation of each region's cell."""
    if not any(roi.get("displacement") for roi in rois):
        return None
    head = ["region", "dx (pm)", "dy (pm)", "Px (uC/cm2)", "Py (uC/cm2)"]
    rows = []
    for roi in rois:
        mean = (roi.get("displacement") or {}).get("mean")
        if mean is None:
            continue
        row = [roi["name"], *(with_error(mean[k], mean[f"std_{k}"]) for k in ("dx_pm", "dy_pm"))]
        polar = roi.get("polarisation_uC_cm2")
        row += (
            [""] * 2
            if polar is None
            else [with_error(polar[k], polar[f"std_{k}"]) for k in ("Px", "Py")]
        )
        rows.append(row)
    return head, rows
