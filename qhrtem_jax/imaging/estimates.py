"""What an imaging fit says of its parameters: values, errors, and what to beware of."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.imaging.model import FAR, Found
from qhrtem_jax.inputs.parameter_space import SHIFT, ParameterSpace
from qhrtem_jax.matching.noise import NoiseModel, measure_noise
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.uncertainty import Errors
from qhrtem_jax.reporting.result import Covariance, Parameter, parameter_table

LEAST_PROBABILITY = 1e-4
"""Less is not reported."""

AT_BOUND = 1e-3
"""A parameter within this share of its range from a bound is reported as lying there."""


def noise_of_residual(residual: Float[np.ndarray, "rows cols"], fitted: int) -> NoiseModel:
    measured = measure_noise(residual, "residual")
    inflation = residual.size / max(residual.size - fitted, 1)
    return dataclasses.replace(measured, variance=measured.variance * inflation)


def estimates(
    found: Found,
    space: ParameterSpace,
    names: tuple[str, ...],
    errors: Errors,
    information: tuple[float | None, float | None],
) -> dict[str, Parameter]:
    """The `parameters` of a result; `information`: -2 log likelihood in units of the objective, by
    the noise alone and scaled by the misfit."""
    fitted = space.fitted.space
    widths = dict(zip(fitted.names, fitted.width, strict=True))
    std_noise: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    for k, name in enumerate(names):
        known = bool(errors.determined[k])
        std_noise[name] = float(errors.std_noise[k] * widths[name]) if known else None
        std[name] = float(errors.std[k] * widths[name]) if known else None
    for errors_of, known_by in zip((std_noise, std), information, strict=True):
        errors_of["thickness"] = _thickness_error(found, known_by)
    free = set(names) | ({"thickness"} if space.thickness_free else set())
    if space.shift_free:
        free |= set(SHIFT)
    return parameter_table(found.vector, free, std_noise, std)


def covariance_of(space: ParameterSpace, names: tuple[str, ...], errors: Errors) -> Covariance:
    """The `covariance` of a result, scaled by the misfit."""
    widths = dict(zip(space.fitted.space.names, space.fitted.space.width, strict=True))
    scale = np.array([widths[name] for name in names])
    values = errors.covariance * np.outer(scale, scale) * max(1.0, errors.chi2_reduced)
    return Covariance(names, tuple(tuple(map(float, row)) for row in values))


def thickness_probability(found: Found, information: float | None) -> dict[int, float] | None:
    """Probabilities of the thicknesses that gradients refined, by the best that each reached.

    `information`: -2 log likelihood in units of the objective, None where it is none. None where
    the neighbours of the best were not refined.
    """
    best = round(float(found.vector[INDEX["thickness"]]))
    costs = found.thickness_costs
    if information is None or not all(best + step in costs for step in (-1, 1)):
        return None
    least = min(costs.values())
    weight = {n: np.exp(-0.5 * (costs[n] - least) * information) for n in sorted(costs)}
    total = sum(weight.values())
    return {n: float(w / total) for n, w in weight.items()}


def _thickness_error(found: Found, information: float | None) -> float | None:
    """Deviation of the thickness by `thickness_probability`."""
    known = thickness_probability(found, information)
    if known is None:
        return None
    best = round(float(found.vector[INDEX["thickness"]]))
    return round(float(np.sqrt(sum(p * (n - best) ** 2 for n, p in known.items()))), 4)


def remarks(
    vector: Float[np.ndarray, " parameters"],
    space: ParameterSpace,
    names: tuple[str, ...],
    errors: Errors,
    noise: NoiseModel,
    minimum: Found,
) -> list[str]:
    """What a reader must know before trusting the numbers."""
    found = []
    fitted = space.fitted.space
    shares = fitted.to_unit(vector[[INDEX[name] for name in fitted.names]])
    searched = [
        (variable, share)
        for variable, share in zip(fitted.variables, shares, strict=True)
        if variable.name != "thickness"
    ]
    for k, (variable, share) in enumerate(searched):
        for edge, text in ((share, "low"), (1.0 - share, "high")):
            if edge < AT_BOUND:
                found.append(
                    f"{variable.name} lies at its {text} bound "
                    f"({getattr(variable, text):g} {variable.unit})"
                )
        if not errors.determined[k]:
            held = "" if variable.prior_std is None else ": its prior holds it"
            found.append(f"{variable.name} is not determined by this image{held}")
    if space.thickness_free:
        first, last = space.thickness_range
        if round(float(vector[INDEX["thickness"]])) in (first, last):
            found.append(f"thickness lies at a bound of {first}..{last} slices")
    if noise.source != "residual" and errors.chi2_reduced > 1.5:
        found.append(
            f"the misfit is {errors.chi2_reduced:.1f} times what the noise explains: "
            "`std` is scaled accordingly, and systematic errors may be larger"
        )
    if minimum.misfit is not None and minimum.misfit > FAR:
        found.append(
            f"the misfit is far above the noise, so the basin may be wrong: {minimum.starts} of "
            f"{len(minimum.ends)} starts of gradients led to it"
        )
    return found
