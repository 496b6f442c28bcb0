"""Figures and report of a structure run."""

from typing import Any

import numpy as np

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.columns import column_arrows
from qhrtem_jax.reporting.history import read_history
from qhrtem_jax.reporting.report import render
from qhrtem_jax.structure.fit import StructureProblem

FIGURES = [
    ("comparison", "Experiment, simulation, difference"),
    ("columns", "Columns: shifts against the cell, occupancies"),
    ("convergence", "Convergence"),
]


def write(
    folder: RunFolder,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    task: StructureProblem,
) -> None:
    """Write figures/*.png and report.html into the run folder."""
    experiment, simulation = (arrays[k].astype(float) for k in ("experiment", "simulation"))
    sampling = task.experiment.frame.sampling_nm
    figures.comparison(
        folder.figure_path("comparison"), experiment, simulation, sampling, result["fit"]
    )
    column_arrows(folder.figure_path("columns"), result["columns"], task.specimen.columns)
    history = read_history(folder)
    figures.convergence(folder.figure_path("convergence"), history, result["noise"]["variance"])
    fit = result["fit"]
    largest = max(np.hypot(c["dx_pm"], c["dy_pm"]) for c in result["columns"])
    summary = (
        f"MSE {fit['mse']:.6f}, NCC {100 * fit['ncc']:.2f} %; the largest shift of a column is "
        f"{largest:.1f} pm."
    )
    folder.write_text("report.html", render("Column structure", summary, result, FIGURES))
