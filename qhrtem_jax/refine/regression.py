"""A straight line through values whose errors go together, and which scatter besides."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.stats import t as student

LEAST_POINTS = 4
"""Two more than a line has parameters: with fewer, the scatter could be anything."""


@dataclasses.dataclass(frozen=True)
class Line:
    """`slope` and its standard error; `p_value`: how probable a slope as steep is where there is
    none (two-sided); the value at the mean place and its error; their `covariance`; `scatter`:
    standard deviation of the values about the line beyond what their errors explain."""

    slope: float
    std_slope: float
    p_value: float
    mean: float
    std_mean: float
    covariance: float
    scatter: float


def line_through(
    at: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    covariance: Float[np.ndarray, "n n"],
) -> Line | None:
    """Generalised least squares of value = mean + slope (at - mean of at) under `covariance` and an
    independent scatter, whose variance is that of restricted maximum likelihood (H. D. Patterson,
    R. Thompson, Biometrika 58, 545, 1971). Significance by Student's t with n - 2 degrees of
    freedom, since the scatter is known from the values themselves.

    None for fewer than `LEAST_POINTS` values, or where all lie at one place.
    """
    n = len(values)
    if n < LEAST_POINTS or np.ptp(at) < 1e-9 * max(1.0, float(np.max(np.abs(at)))):
        return None
    design = np.stack([np.ones(n), at - at.mean()], axis=1)

    def solved(variance: float) -> tuple[np.ndarray, np.ndarray, float]:
        whole = covariance + variance * np.eye(n)
        inverse = np.linalg.inv(whole)
        spread = np.linalg.inv(design.T @ inverse @ design)
        found = spread @ design.T @ inverse @ values
        left = values - design @ found
        loss = np.linalg.slogdet(whole)[1] - np.linalg.slogdet(spread)[1] + left @ inverse @ left
        return found, spread, float(loss)

    least = 1e-6 * float(np.mean(np.diagonal(covariance))) + 1e-12 * float(np.var(values)) + 1e-30
    most = 4.0 * float(np.var(values)) + 2.0 * least
    search = minimize_scalar(
        lambda log: solved(float(np.exp(log)))[2], bounds=np.log([least, most]), method="bounded"
    )
    scatter = float(np.exp(search.x))
    if solved(least)[2] <= search.fun:
        scatter = least
    found, spread, _ = solved(scatter)
    std = np.sqrt(np.diagonal(spread))
    p_value = 2.0 * float(student.sf(abs(found[1]) / std[1], n - 2))
    known = 0.0 if scatter == least else float(np.sqrt(scatter))
    return Line(
        slope=float(found[1]),
        std_slope=float(std[1]),
        p_value=p_value,
        mean=float(found[0]),
        std_mean=float(std[0]),
        covariance=float(spread[0, 1]),
        scatter=known,
    )
