"""Stage `reconstruct`: numbers of atoms of every region of interest."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from qhrtem_jax.imaging.search import Progress
from qhrtem_jax.inputs import problem
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.regions import fit
from qhrtem_jax.regions.model import fitter, regions_model
from qhrtem_jax.regions.problem import ReconstructProblem
from qhrtem_jax.regions.problem import prepare as prepare
from qhrtem_jax.regions.result import all_correlations, region_entries, structures, summary_fit
from qhrtem_jax.reporting.result import describe_noise, header, noise_remarks, parameter_table

log = logging.getLogger(__name__)


def run(
    task: ReconstructProblem, folder: RunFolder, report: Callable[[Progress], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Count, and return (result, arrays)."""
    journal = Journal(folder, report)
    vector = task.imaging.vector(folder, report)
    model = regions_model(task, vector)
    state = fit.count(model, fit.relax(model, fit.start(model, journal), journal), journal)
    entries = region_entries(model, state)
    simulations = fitter(model, state.noise).images(state.points)
    experiment = model.targets
    noise = state.noise
    result = header(task.settings) | {
        "warnings": task.warnings
        + task.imaging.warnings
        + list(state.remarks)
        + noise_remarks(noise),
        "grid": problem.describe_grid(model.choice),
        "noise": describe_noise(noise),
        "fit": summary_fit(simulations, experiment, [e["fit"]["chi2_reduced"] for e in entries]),
        "parameters": parameter_table(vector, set(), {}, {}),
        "correlations": all_correlations(entries),
        "rois": entries,
        "cost": journal.cost(),
    }
    arrays = {
        "experiment": experiment.astype(np.float32),
        "simulation": simulations.astype(np.float32),
        "difference": (simulations - experiment).astype(np.float32),
        "points": state.points,
        "relaxed_points": state.relaxed_points,
    }
    folder.write_structures(structures(model, state.points))
    thickness = ", ".join(f"{e['thickness_nm']:.2f}" for e in entries)
    log.info("thickness of the regions (nm): %s", thickness)
    return result, arrays
