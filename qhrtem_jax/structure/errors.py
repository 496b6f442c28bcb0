"""How well a fit of columns knows what it found."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.matching.weights import error_scale
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.uncertainty import (
    UNDETERMINED,
    known_without_image,
    strong_correlations,
    without_mean_shift,
)
from qhrtem_jax.reporting.column_tables import point_names
from qhrtem_jax.structure.model import StructureModel, StructureState, fitter


@dataclasses.dataclass(frozen=True)
class StructureErrors:
    """Errors of a whole point (NaN where fixed, infinite where not determined)."""

    std_noise: Float[np.ndarray, " point"]
    scale: float  # of `std` against `std_noise`
    chi2_reduced: float | None
    correlations: list[dict[str, Any]]
    remarks: list[str]
    around: dict[str, Float[np.ndarray, "..."]]  # the fit around its best point, as arrays

    def of_imaging(
        self, names: list[str]
    ) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """(from the noise alone, scaled by the misfit) of imaging parameters; None where an error
        is not known."""
        std_noise: dict[str, float | None] = {}
        std: dict[str, float | None] = {}
        for name in names:
            value = float(self.std_noise[INDEX[name]])
            known = bool(np.isfinite(value))
            std_noise[name] = value if known else None
            std[name] = value * self.scale if known else None
        return std_noise, std


def structure_errors(
    model: StructureModel, state: StructureState, simulation: Float[np.ndarray, "rows cols"]
) -> StructureErrors:
    """Errors of what was fitted and looks like `simulation`, with all of it free together."""
    coordinates = model.structure if model.mode == "fixed" else model.everything
    layout, image, noise = model.layout, model.image, state.noise
    fit, known_here = fitter(model, noise), coordinates.host()
    jacobian = fit.jacobians(coordinates, state.point[None])[0]
    slopes = np.asarray(fit.likelihood.slopes(jnp.asarray(jacobian)), float)
    free, width = coordinates.index, known_here.width
    around = {
        "jacobian": np.asarray(jacobian, np.float32),
        "unit": known_here.to_unit(state.point),
        "prior_mean": known_here.prior_mean,
        "prior_std": known_here.prior_std,
        "places": np.isin(free, np.arange(layout.shifts.start, layout.shifts.stop)),
    }
    known = known_without_image(coordinates)
    covariance = np.linalg.inv(slopes.T @ slopes + np.diag(1.0 / known**2))
    missed = float(fit.likelihood.objective(simulation, image))
    chi2 = missed / max(image.size - len(free), 1)
    if model.mode != "fixed":
        covariance = without_mean_shift(covariance, free, layout, width)
    deviation = np.sqrt(np.diagonal(covariance))
    undetermined = deviation > UNDETERMINED * known
    std = np.full(layout.size, np.nan)
    std[free] = np.where(undetermined, np.inf, deviation * width)
    names = point_names(model.problem.specimen.columns, layout)
    remarks = [f"{names[k]} is not determined by this image" for k in free[undetermined]]
    correlations = strong_correlations(covariance, [names[k] for k in free], ~undetermined)
    scale = error_scale(noise, model.problem.experiment.noise, image, simulation - image, chi2)
    if not noise.is_noise:
        remarks.append(
            f"the misfit is {scale.chi2:.1f} times what the noise explains: `std` is scaled "
            "accordingly, and systematic errors may be larger"
        )
    return StructureErrors(
        std * scale.noise,
        scale.misfit,
        None if noise.source == "residual" else scale.chi2,
        correlations,
        remarks,
        around,
    )
