"""The page of an imaging run."""

from qhrtem_jax.imaging.result import ImagingResult
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.result import merit
from qhrtem_jax.reporting.viewer import Viewer, differences


def page(result: ImagingResult) -> Page:
    """The comparison, the convergence, the parameters within their bounds."""
    experiment, simulation = (
        result.arrays[name].astype(float) for name in ("experiment", "simulation")
    )
    sampling = result.settings.data.sampling
    drawings = [
        Drawing(
            "comparison",
            "Experiment, simulation, difference",
            lambda path: figures.comparison(path, experiment, simulation, sampling, result.fit),
        ),
        Drawing(
            "convergence",
            "Convergence",
            lambda path: figures.convergence(path, result.history, result.noise.variance),
        ),
        Drawing(
            "parameters",
            "Parameters within their bounds",
            lambda path: figures.parameters(path, result.parameters, result.bounds),
        ),
    ]
    if result.thickness_objective is not None and len(result.thickness_objective) > 1:
        known = {int(n): value for n, value in result.thickness_objective.items()}
        criterion = result.settings.objective.criterion
        drawings.append(
            Drawing(
                "thickness",
                f"The least objective ({criterion}) at each thickness that gradients reached",
                lambda path: figures.by_thickness(path, known, criterion, result.slice_nm),
            )
        )
    if min(experiment.shape) > 2 * figures.NCC_REACH + 1:
        drawings.append(
            Drawing(
                "ncc",
                "Normalised cross-correlation over shifts",
                lambda path: figures.ncc(path, experiment, simulation),
            )
        )
    fit, cost = result.fit, result.cost
    thickness = int(result.parameters["thickness"].value)
    chi2 = "" if fit.chi2_reduced is None else f"reduced chi-square {fit.chi2_reduced:.2f}; "
    return Page(
        "Imaging parameters",
        f"{merit(fit)}, {chi2}{thickness} slices ({thickness * result.slice_nm:.3f} nm); "
        f"{cost.evaluations} evaluations and {cost.gradient_evaluations} Jacobians "
        f"in {cost.wall_s:.0f} s.",
        tuple(drawings),
        said=(f"{merit(fit)}, thickness {thickness} slices",),
        viewer=Viewer(differences(experiment, simulation, result.noise), sampling),
    )
