"""Stage `reconstruct`: numbers of atoms of every region of interest."""

import numpy as np

from qhrtem_jax.io.journal import Journal
from qhrtem_jax.regions.fit import fit_regions
from qhrtem_jax.regions.model import fitter, regions_model
from qhrtem_jax.regions.problem import RegionsProblem
from qhrtem_jax.regions.result import (
    RegionsResult,
    all_correlations,
    exit_remarks,
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
from qhrtem_jax.reporting.spectrum import bands


def run(problem: RegionsProblem, journal: Journal) -> RegionsResult:
    """Count the atoms of all regions."""
    assert problem.imaging is not None
    model = regions_model(problem, problem.imaging, journal.engine)
    model, state = fit_regions(model, journal)
    entries = region_entries(model, state)
    simulations = fitter(model, state.noise).images(state.points)
    experiment, noise = model.targets, state.noise
    return RegionsResult(
        **header(problem.settings, problem.reader),
        warnings=(
            *problem.warnings,
            *state.remarks,
            *exit_remarks(entries),
            *noise_remarks(noise),
        ),
        grid=grid_sizes(model.choice),
        noise=noise_of(noise, bands(noise, simulations - experiment, problem.frame.sampling_nm)),
        fit=summary_fit(simulations, experiment, [e.fit.chi2_reduced for e in entries]),
        parameters=parameter_table(problem.imaging.vector, set(), {}, {}),
        correlations=all_correlations(entries),
        rois=entries,
        cost=journal.cost(),
        cell=problem.specimen.columns,
        arrays={
            "experiment": experiment.astype(np.float32),
            "simulation": simulations.astype(np.float32),
            "difference": (simulations - experiment).astype(np.float32),
            "points": state.points,
            "relaxed_points": state.relaxed_points,
        },
        structures=region_models(model, state.points),
        history=tuple(journal.rows),
    )
