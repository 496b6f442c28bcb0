"""Figures and report of an imaging run."""

from typing import Any

import numpy as np

from qhrtem_jax.imaging.fit import ImagingProblem
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.history import read_history
from qhrtem_jax.reporting.report import render

FIGURES = [
    ("comparison", "Experiment, simulation, difference"),
    ("convergence", "Convergence"),
    ("parameters", "Parameters within their bounds"),
    ("ncc", "Normalised cross-correlation over shifts"),
]


def write(
    folder: RunFolder,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    task: ImagingProblem,
) -> None:
    """Write figures/*.png and report.html into the run folder."""
    space, sampling_nm = task.space, task.experiment.frame.sampling_nm
    experiment = arrays["experiment"].astype(float)
    simulation = arrays["simulation"].astype(float)
    drawn = [f for f in FIGURES if f[0] != "ncc" or min(experiment.shape) > 13]
    figures.comparison(
        folder.figure_path("comparison"), experiment, simulation, sampling_nm, result["fit"]
    )
    history = read_history(folder)
    figures.convergence(folder.figure_path("convergence"), history, result["noise"]["variance"])
    bounds = {v.name: (v.low, v.high) for v in (*space.fitted.space.variables, space.thickness)}
    figures.parameters(folder.figure_path("parameters"), result["parameters"], bounds)
    if len(drawn) == len(FIGURES):
        figures.ncc(folder.figure_path("ncc"), experiment, simulation)
    fit, cost = result["fit"], result["cost"]
    thickness = result["parameters"]["thickness"]["value"]
    chi2 = fit["chi2_reduced"]
    chi2 = "" if chi2 is None else f"reduced chi-square {chi2:.2f}; "
    summary = (
        f"MSE {fit['mse']:.6f}, NCC {100 * fit['ncc']:.2f} %, {chi2}"
        f"{thickness} slices ({thickness * task.slice_nm:.3f} nm); "
        f"{cost['evaluations']} evaluations and {cost['gradient_evaluations']} Jacobians "
        f"in {cost['wall_s']:.0f} s."
    )
    folder.write_text("report.html", render("Imaging parameters", summary, result, drawn))
