"""Figures of a run; each function writes one, as PNG and as PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from qhrtem_jax.io.atomic import replacing
from qhrtem_jax.io.journal import Row
from qhrtem_jax.matching.criteria import ncc_map
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.result import NCC_REACH, Fit, Parameter

DPI = 150


def save(figure: Figure, path: Path) -> None:
    """As .png, and as .pdf beside it."""
    FigureCanvasAgg(figure)
    for kind in ("png", "pdf"):
        with replacing(path.with_suffix(f".{kind}"), durable=False) as file:
            figure.savefig(file, dpi=DPI, format=kind)


def rectangle(corner: Float[np.ndarray, " 2"], size: Float[np.ndarray, " 2"]) -> Rectangle:
    """Thin outline."""
    return Rectangle(
        (float(corner[0]), float(corner[1])),
        float(size[0]),
        float(size[1]),
        fill=False,
        lw=0.6,
        ec="0.6",
    )


def comparison(
    path: Path,
    experiment: Float[np.ndarray, "rows cols"],
    simulation: Float[np.ndarray, "rows cols"],
    sampling_nm: tuple[float, float],
    fit: Fit,
) -> None:
    """Experiment, simulation and difference + 1 on one grey scale, and the difference stretched."""
    low = float(min(experiment.min(), simulation.min()))
    high = float(max(experiment.max(), simulation.max()))
    rows, cols = experiment.shape
    height, width = rows * sampling_nm[0], cols * sampling_nm[1]
    figure = Figure(figsize=(13.0, 3.2 * max(0.6, height / width) + 0.8), layout="constrained")
    axes = figure.subplots(1, 4)
    panels = (
        ("experiment", experiment, f"mean {fit.mean_exp:.3f}, std {fit.std_exp:.3f}"),
        ("simulation", simulation, f"mean {fit.mean_sim:.3f}, std {fit.std_sim:.3f}"),
        (
            "simulation \N{MINUS SIGN} experiment + 1",
            simulation - experiment + 1.0,
            f"mean {fit.mean_diff:.4f}, std {fit.std_diff:.4f}",
        ),
    )
    drawn = []
    for axis, (title, image, note) in zip(axes[:3], panels, strict=True):
        extent = (0.0, width, height, 0.0)
        drawn.append(axis.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent))
        axis.set_title(f"{title}\n{note}", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    bar = 0.1 if width < 1.0 else 0.5
    axes[0].plot([0.05 * width, 0.05 * width + bar], [0.94 * height] * 2, color="white", lw=3)
    axes[0].text(0.05 * width, 0.91 * height, f"{bar:g} nm", color="white", fontsize=8)
    figure.colorbar(drawn[0], ax=axes[:3], label="intensity (vacuum = 1)", shrink=0.8)
    reach = 4.0 * float(np.std(simulation - experiment)) or 1.0
    stretched = axes[3].imshow(
        simulation - experiment,
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
        extent=(0.0, width, height, 0.0),
    )
    axes[3].set_title("difference, stretched\nto 4 standard deviations", fontsize=9)
    axes[3].set_xticks([])
    axes[3].set_yticks([])
    figure.colorbar(stretched, ax=axes[3], shrink=0.8)
    figure.suptitle(f"MSE {fit.mse:.6f}   NCC {100 * fit.ncc:.2f} %", fontsize=10)
    save(figure, path)


def convergence(path: Path, history: Sequence[Row], floor: float | None) -> None:
    """Best MSE over time and over evaluations; `floor` is the noise variance."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    known = [row for row in history if row.best_mse < float("inf")]
    best = [row.best_mse for row in known]
    for axis, key, label in (
        (axes[0], "evaluations", "evaluations"),
        (axes[1], "seconds", "time (s)"),
    ):
        axis.step([getattr(row, key) for row in known], best, where="post", color="C0")
        axis.set_yscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3, which="both")
        if floor is not None:
            axis.axhline(floor, color="C3", ls="--", lw=1, label="noise variance")
    axes[0].set_ylabel("best MSE")
    if floor is not None:
        axes[0].legend(fontsize=8)
    save(figure, path)


def comparisons(
    path: Path,
    experiment: Shaped[np.ndarray, "n rows cols"],
    simulation: Shaped[np.ndarray, "n rows cols"],
    above: Sequence[str],
    below: Sequence[str],
    size: tuple[float, float],
) -> None:
    """Experiment, simulation and difference + 1 of some images side by side, on one grey scale;
    `above` and `below` each is written, `size` (width of one, height of all) in inches."""
    figure = Figure(figsize=(size[0] * len(above) + 1.2, size[1]), layout="constrained")
    axes = figure.subplots(3, len(above), squeeze=False)
    rows = (experiment, simulation, simulation - experiment + 1.0)
    low, high = float(np.min(rows[:2])), float(np.max(rows[:2]))
    drawn = None
    for line, images, label in zip(
        axes, rows, ("experiment", "simulation", "difference + 1"), strict=True
    ):
        for axis, image in zip(line, images, strict=True):
            drawn = axis.imshow(image, cmap="gray", vmin=low, vmax=high)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label, fontsize=8)
    for first, last, title, text in zip(axes[0], axes[2], above, below, strict=True):
        first.set_title(title, fontsize=8)
        last.set_xlabel(text, fontsize=7)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="intensity (vacuum = 1)")  # type: ignore[arg-type]
    save(figure, path)


def by_thickness(path: Path, known: Mapping[int, float], criterion: str, slice_nm: float) -> None:
    """The least objective that was reached at each number of slices."""
    figure = Figure(figsize=(6.0, 3.0), layout="constrained")
    axis = figure.subplots()
    slices, values = list(known), list(known.values())
    axis.plot(slices, values, "o-", color="C0", ms=4)
    best = slices[int(np.argmin(values))]
    axis.plot(best, min(values), "o", color="C3", label=f"{best} slices, {best * slice_nm:.2f} nm")
    axis.set(xlabel="thickness (slices)", ylabel=f"least objective ({criterion})", yscale="log")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    save(figure, path)


def parameters(
    path: Path, table: Mapping[str, Parameter], bounds: Mapping[str, tuple[float, float]]
) -> None:
    """Free parameters within their bounds, with error bars (scaled by the misfit)."""
    names = [name for name in bounds if table[name].free]
    figure = Figure(figsize=(7.5, 0.28 * len(names) + 1.0), layout="constrained")
    axis = figure.subplots()
    for row, name in enumerate(reversed(names)):
        low, high = bounds[name]
        entry = table[name]
        place = (entry.value - low) / (high - low)
        if entry.std is None:
            # open: no error bar can be given
            axis.plot(place, row, marker="o", mfc="white", color="C7")
        else:
            axis.errorbar(place, row, xerr=entry.std / (high - low), fmt="o", color="C0", ms=4)
        text = f"{with_error(entry.value, entry.std)} {entry.unit}"
        axis.text(1.03, row, text, va="center", fontsize=8)
        axis.text(-0.01, row, f"{low:g}", va="center", ha="right", fontsize=6, color="0.5")
        axis.text(0.995, row, f"{high:g}", va="center", ha="right", fontsize=6, color="0.5")
    axis.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    axis.tick_params(axis="y", pad=28)
    axis.set_xlim(0.0, 1.0)
    axis.set_xticks([])
    axis.set_ylim(-0.7, len(names) - 0.3)
    axis.grid(axis="y", alpha=0.3)
    axis.set_title(
        "position within the bounds; open: without error (see the report)", fontsize=9, loc="left"
    )
    save(figure, path)


def ncc(
    path: Path,
    experiment: Float[np.ndarray, "rows cols"],
    simulation: Float[np.ndarray, "rows cols"],
) -> None:
    """NCC over whole-pixel shifts: the peak of a good match lies at the centre."""
    values = np.asarray(ncc_map(jnp.asarray(simulation), jnp.asarray(experiment), NCC_REACH))
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis = figure.subplots()
    edge = NCC_REACH + 0.5
    drawn = axis.imshow(values, cmap="viridis", extent=(-edge, edge, edge, -edge))
    axis.set_xlabel("shift along x (pixels)")
    axis.set_ylabel("shift along y (pixels)")
    axis.set_title(f"peak {100 * values.max():.2f} %", fontsize=9)
    ticks = range(-NCC_REACH, NCC_REACH + 1, 2)
    axis.set_xticks(ticks)
    axis.set_yticks(ticks)
    figure.colorbar(drawn, ax=axis, label="NCC")
    save(figure, path)


def montage(
    path: Path,
    images: Float[np.ndarray, "n rows cols"],
    sampling_nm: tuple[float, float],
    titles: Sequence[str],
    *,
    label: str = "intensity (vacuum = 1)",
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
) -> None:
    """Up to 12 images on one scale: from `limits`, or from their least to their largest value."""
    shown = images[:12]
    low, high = limits or (float(shown.min()), float(shown.max()))
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    height, width = images.shape[1] * sampling_nm[0], images.shape[2] * sampling_nm[1]
    size = (2.6 * columns + 0.8, 2.6 * rows * height / width + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    drawn = []
    for axis in axes:
        axis.set_axis_off()
    for axis, one, title in zip(axes, shown, titles, strict=False):
        extent = (0.0, width, height, 0.0)
        drawn.append(axis.imshow(one, cmap=cmap, vmin=low, vmax=high, extent=extent))
        axis.set_title(title, fontsize=8)
    figure.colorbar(drawn[0], ax=axes.tolist(), label=label, shrink=0.8)
    save(figure, path)
