"""Stage `reconstruct`: numbers of atoms of every region of interest."""

import numpy as np

from qhrtem_jax.io.journal import Journal
from qhrtem_jax.regions.fit import RegionFit
from qhrtem_jax.regions.problem import RegionsProblem
from qhrtem_jax.regions.result import (
    RegionsResult,
    all_correlations,
    region_entries,
    region_models,
    summary_fit,
)
from qhrtem_jax.reporting.result import (
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)


def run(problem: RegionsProblem, journal: Journal) -> RegionsResult:
    """Count the atoms of all regions."""
    assert problem.imaging is not None
    fit = RegionFit(problem, problem.imaging, journal)
    fit.start()
    fit.relax()
    fit.count()
    entries = region_entries(fit)
    simulations = fit.model.images(fit.points)
    experiment = problem.targets
    noise = fit.noise
    return RegionsResult(
        **header(problem.settings, problem.reader),
        warnings=(*problem.warnings, *fit.remarks, *noise_remarks(noise)),
        grid=grid_sizes(fit.choice),
        noise=noise_of(noise),
        fit=summary_fit(simulations, experiment, [e.fit.chi2_reduced for e in entries]),
        parameters=parameter_table(problem.imaging, set(), {}, {}),
        correlations=all_correlations(entries),
        rois=entries,
        cost=journal.cost(),
        cell=problem.specimen.columns,
        arrays={
            "experiment": experiment.astype(np.float32),
            "simulation": simulations.astype(np.float32),
            "difference": (simulations - experiment).astype(np.float32),
            "points": fit.points,
            "relaxed_points": fit.relaxed_points,
        },
        structures=region_models(fit),
        history=tuple(journal.rows),
    )
