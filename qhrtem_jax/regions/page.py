"""Figures and report of a reconstruct run."""

from typing import Any

import numpy as np

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.regions.problem import ReconstructProblem
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.history import read_history
from qhrtem_jax.reporting.regions import count_maps, region_montage, regions_table
from qhrtem_jax.reporting.report import render

FIGURES = [
    ("regions", "Experiment, simulation, difference of every region"),
    ("counts", "Numbers of atoms, with the probability of each"),
    ("convergence", "Convergence"),
]


def write(
    folder: RunFolder,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    task: ReconstructProblem,
) -> None:
    """Write figures/*.png and report.html into the run folder."""
    region_montage(folder.figure_path("regions"), arrays, result["rois"])
    count_maps(folder.figure_path("counts"), result["rois"], task.specimen.columns)
    history = read_history(folder)
    figures.convergence(folder.figure_path("convergence"), history, result["noise"]["variance"])
    rois = result["rois"]
    mse = np.mean([r["fit"]["mse"] for r in rois])
    summary = (
        f"{len(rois)} regions, mean MSE {mse:.6f}, NCC "
        f"{100 * min(r['fit']['ncc'] for r in rois):.2f} to "
        f"{100 * max(r['fit']['ncc'] for r in rois):.2f} %, thickness "
        f"{min(r['thickness_nm'] for r in rois):.2f} to "
        f"{max(r['thickness_nm'] for r in rois):.2f} nm."
    )
    page = render(
        "Numbers of atoms", summary, result, FIGURES, tables=[("Regions", *regions_table(rois))]
    )
    folder.write_text("report.html", page)
