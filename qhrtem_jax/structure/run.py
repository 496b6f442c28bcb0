"""Stage `structure`: positions of columns and occupancies of chains in one (mean) image."""

import numpy as np

from qhrtem_jax.io.journal import Journal
from qhrtem_jax.reporting.column_tables import (
    cell_model,
    columns_table,
    model_structure,
    mtf_scale_table,
)
from qhrtem_jax.reporting.result import (
    correlations_of,
    figures_of_merit,
    grid_sizes,
    header,
    noise_of,
    noise_remarks,
    parameter_table,
)
from qhrtem_jax.structure.errors import structure_errors
from qhrtem_jax.structure.fit import solve
from qhrtem_jax.structure.model import exit_vector, fitter, structure_model
from qhrtem_jax.structure.problem import StructureProblem
from qhrtem_jax.structure.result import StructureResult


def run(problem: StructureProblem, journal: Journal) -> StructureResult:
    """Fit the columns and, by option, the imaging parameters."""
    assert problem.imaging is not None
    columns, image = problem.specimen.columns, problem.experiment.image
    model = structure_model(problem, problem.imaging.vector)
    state = solve(model, journal)
    simulation = fitter(model, state.noise).images(state.point[None])[0]
    errors = structure_errors(model, state, simulation)
    fitted = model.fitted_imaging
    table = state.point, errors.std_noise, errors.scale
    scales = None
    if model.bounds.camera:
        scales = mtf_scale_table(model.layout, problem.settings.data.mtf_scale, *table)
    cell = model_structure(columns, model.layout, state.point)
    shifts = columns_table(columns, model.layout, *table, remove_mean=model.mode != "fixed")
    return StructureResult(
        **header(problem.settings, problem.reader),
        warnings=(*problem.warnings, *errors.remarks, *noise_remarks(state.noise)),
        grid=grid_sizes(model.choice),
        noise=noise_of(state.noise),
        fit=figures_of_merit(simulation, image, errors.chi2_reduced),
        parameters=parameter_table(
            exit_vector(model, state.point), set(fitted), *errors.of_imaging(fitted)
        ),
        correlations=correlations_of(errors.correlations),
        columns=shifts,
        mtf_scale=scales,
        cost=journal.cost(),
        cell=columns,
        arrays={
            "experiment": image.astype(np.float32),
            "simulation": simulation.astype(np.float32),
            "difference": (simulation - image).astype(np.float32),
            **errors.around,
        },
        structures={"structure": cell_model(columns, cell, shifts)},
        history=tuple(journal.rows),
    )
