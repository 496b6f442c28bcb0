"""The page of a structure run."""

import numpy as np

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.columns import column_arrows
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.result import merit
from qhrtem_jax.reporting.viewer import (
    Area,
    Viewer,
    cell_at,
    differences,
    fit_says,
    image_shift,
    spots_of,
)
from qhrtem_jax.structure.result import StructureResult


def page(result: StructureResult) -> Page:
    """The comparison, the columns with their shifts and occupancies, the convergence."""
    experiment, simulation = (
        result.arrays[name].astype(float) for name in ("experiment", "simulation")
    )
    sampling = result.settings.data.sampling
    shift = image_shift(result.parameters)
    place, corners = cell_at((0.0, 0.0), result.cell, sampling, shift)
    largest = max(np.hypot(column.dx_pm, column.dy_pm) for column in result.columns)
    return Page(
        "Column structure",
        f"{merit(result.fit)}; the largest shift of a column is {largest:.1f} pm.",
        (
            Drawing(
                "comparison",
                "Experiment, simulation, difference",
                lambda path: figures.comparison(path, experiment, simulation, sampling, result.fit),
            ),
            Drawing(
                "columns",
                "Columns: shifts against the cell, occupancies",
                lambda path: column_arrows(path, result.columns, result.cell),
            ),
            Drawing(
                "convergence",
                "Convergence",
                lambda path: figures.convergence(path, result.history, result.noise.variance),
            ),
        ),
        said=(merit(result.fit),),
        viewer=Viewer(
            differences(experiment, simulation, result.noise),
            sampling,
            (Area("mean cell", corners, fit_says(result.fit)),),
            tuple(spots_of(result.columns, (), place, 0)),
        ),
    )
