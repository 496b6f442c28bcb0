"""Figures and tables of a series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.reporting.figures import comparisons, save
from qhrtem_jax.reporting.numbers import fixed, with_error
from qhrtem_jax.reporting.page import Table
from qhrtem_jax.series.result import Event, Frame

MOST_SHOWN = 6
"""So many frames are drawn, spread over the series."""


def trajectories(path: Path, frames: Sequence[Frame], events: Sequence[Event]) -> None:
    """Drift, C1, mean thickness and displacements against the frame, changes of numbers marked."""
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel()
    at = np.arange(len(frames))
    for axis, name in enumerate("xy"):
        errors = [f.std_drift_px[axis] or 0.0 for f in frames]
        drift = [f.drift_px[axis] for f in frames]
        axes[0].errorbar(at, drift, yerr=errors, fmt="o-", ms=3, label=name)
    axes[0].set_ylabel("drift (pixels)")
    axes[0].legend(fontsize=8)
    axes[1].plot(at, [f.C1_nm for f in frames], "o-", ms=3, color="C2")
    axes[1].set_ylabel("C1 (nm)")
    thickness = [[roi.thickness_nm for roi in frame.rois] for frame in frames]
    axes[2].plot(at, np.mean(thickness, axis=1), "o-", ms=3, color="C4")
    axes[2].set_ylabel("mean thickness (nm)")
    for k, roi in enumerate(frames[0].rois):
        moved = [frame.rois[k].displacement for frame in frames]
        known = [(t, m.mean) for t, m in enumerate(moved) if m is not None]
        if known:
            frame, shift = zip(*known, strict=True)
            errors = [s.std_dy_pm for s in shift]
            values = [s.dy_pm for s in shift]
            axes[3].errorbar(frame, values, yerr=errors, fmt="o-", ms=2, lw=0.8, label=roi.name)
    axes[3].set_ylabel("displacement along y (pm)")
    if frames[0].rois[0].displacement is not None:
        axes[3].legend(fontsize=6, ncols=2)
    for event in events:
        for axis in axes[2:]:
            axis.axvline(event.frame - 0.5, color="0.6", ls="--", lw=0.8)
    for axis in axes[2:]:
        axis.set_xlabel("frame (from 0)")
    save(figure, path)


def some_frames(path: Path, arrays: Arrays) -> None:
    """Experiment, simulation and difference + 1 of some frames, on one grey scale."""
    count = len(arrays["experiment"])
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_SHOWN)).astype(int))
    experiment, simulation = (arrays[name][shown] for name in ("experiment", "simulation"))
    titles = [f"frame {k}" for k in shown]
    comparisons(path, experiment, simulation, titles, [""] * len(shown), (1.9, 4.6))


def frames_table(frames: Sequence[Frame]) -> Table:
    """One row a frame."""
    head = ["frame", "drift x (px)", "drift y (px)", "C1 (nm)", "MSE", "NCC (%)", "atoms"]
    rows = []
    for k, frame in enumerate(frames):
        atoms = sum(entry.n for roi in frame.rois for entry in roi.counts)
        drift = zip(frame.drift_px, frame.std_drift_px, strict=True)
        merit = [f"{frame.fit.mse:.6f}", f"{100 * frame.fit.ncc:.2f}", str(atoms)]
        rows.append([str(k), *(with_error(*pair) for pair in drift), fixed(frame.C1_nm, 3), *merit])
    return Table("Frames", head, rows)


def events_table(events: Sequence[Event]) -> Table | None:
    """What changed, and when."""
    rows = [
        [
            str(event.frame),
            event.roi,
            f"{event.species} ({event.x:.3f}, {event.y:.3f})",
            f"{event.change:+d}",
            f"{100 * event.probability:.1f}",
        ]
        for event in sorted(events, key=lambda e: e.frame)
    ]
    head = ["first frame", "region", "column", "atoms", "probability (%)"]
    return Table("Changes", head, rows) if rows else None
