"""Standard errors of a least-squares fit under correlated noise."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.coordinates import Coordinates

UNDETERMINED = 0.75
"""A parameter whose error exceeds this share of what is known without the image (its prior, or a
uniform distribution over its bounds) is not determined by the image."""

STRONG_CORRELATION = 0.9


def strong_correlations(
    covariance: Float[np.ndarray, "d d"], names: Sequence[str], determined: Bool[np.ndarray, " d"]
) -> list[dict]:
    """Pairs of the `determined` parameters whose errors go together, strongest first.

    `covariance`, in any units.
    """
    scale = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = covariance / np.outer(scale, scale)
    pairs = [
        {"a": names[i], "b": names[j], "r": float(r[i, j])}
        for i in range(len(names))
        for j in range(i)
        if abs(r[i, j]) >= STRONG_CORRELATION and determined[i] and determined[j]
    ]
    return sorted(pairs, key=lambda pair: -abs(pair["r"]))


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of the fitted parameters, in units of the bounds' widths.

    `covariance`: from the noise alone; `chi2_reduced`: residual over what the noise leaves after
    the fit; `determined`: whether the image says more of a parameter than its prior or bounds do.
    """

    covariance: Float[np.ndarray, "d d"]
    chi2_reduced: float
    determined: Bool[np.ndarray, " d"]

    @property
    def std_noise(self) -> Float[np.ndarray, " d"]:
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def std(self) -> Float[np.ndarray, " d"]:
        """Errors scaled by the misfit."""
        return self.std_noise * np.sqrt(max(1.0, self.chi2_reduced))

    def strong_correlations(self, names: tuple[str, ...]) -> list[dict]:
        """Pairs of determined parameters whose errors go together, strongest first."""
        return strong_correlations(self.covariance, names, self.determined)


def fit_errors(
    residual: Float[np.ndarray, "pixel_rows pixel_cols"],
    jacobian: Float[np.ndarray, "d rows cols"],
    noise: NoiseModel,
    data_variance: float,
    prior_std: Float[np.ndarray, " d"],
    basis: tuple[Float[np.ndarray, "pixel_rows rows"], Float[np.ndarray, "pixel_cols cols"]]
    | None = None,
    image: Float[np.ndarray, "pixel_rows pixel_cols"] | None = None,
) -> Errors:
    """Errors of the minimum of |r|^2 / data_variance + sum ((u - m) / prior_std)^2.

    **Arguments:** `jacobian`, by parameters in units of their bounds' widths; `data_variance`, the
    weight that the fit gave the pixels; `prior_std`, infinite where there is none; `basis`,
    orthonormal functions whose coordinates the Jacobian is given in (None: in pixels); `image`,
    whose intensity the noise grows with, where it does (None: the vacuum's).

    The fit weighs pixels equally, their noise is correlated (covariance S), so the covariance is
    the sandwich H^-1 (J^T S J / v^2 + P) H^-1 with H = J^T J / v + P (White, Econometrica 48, 817,
    1980). P holds the priors and, where there is none, the bounds: a parameter cannot err by more
    than a uniform distribution over them. Parameters at a bound are treated like any other. Since
    the fit absorbs a part of the noise, the residual is compared with
    trace((1 - A) S (1 - A)^T), A = J H^-1 J^T / v.
    """
    d = len(jacobian)
    flat = jacobian.reshape(d, -1)
    known = least_known(prior_std)
    precision = np.diag(1.0 / np.square(known))
    hessian = flat @ flat.T / data_variance + precision
    inverse = np.linalg.inv(hessian)
    deviation = None if image is None else noise.deviation(image)
    along, noisy = [noise.correlation(n) for n in residual.shape], jacobian
    total = noise.variance * residual.size
    if deviation is not None:
        total = noise.variance * float(np.sum(deviation**2))
        noisy = deviation * (jacobian if basis is None else basis[0] @ jacobian @ basis[1].T)
    elif basis is not None:
        along = [b.T @ a @ b for a, b in zip(along, basis, strict=True)]
    spread = noise.variance * np.einsum("yz,dzx,xw->dyw", along[0], noisy, along[1], optimize=True)
    middle = noisy.reshape(d, -1) @ spread.reshape(d, -1).T  # J^T S J
    covariance = inverse @ (middle / data_variance**2 + precision) @ inverse
    gram = flat @ flat.T
    absorbed = (
        2.0 * np.trace(inverse @ middle) / data_variance
        - np.trace(inverse @ gram @ inverse @ middle) / data_variance**2
    )
    expected = total - absorbed
    determined = np.sqrt(np.diagonal(covariance)) < UNDETERMINED * known
    chi2 = float(np.sum(residual**2) / max(expected, 0.05 * total))
    return Errors(covariance, chi2, determined)


def without_mean_shift(
    covariance: Float[np.ndarray, "p p"],
    free: Int[np.ndarray, " p"],
    layout: Layout,
    width: Float[np.ndarray, " p"],
) -> Float[np.ndarray, "p p"]:
    """Covariance of the free coordinates (units of their widths) once the mean shift of the columns
    has gone into A0, which is one with it."""
    transform = np.eye(len(free))
    for axis, name in enumerate(("A0_x", "A0_y")):
        shifts = range(layout.shifts.start + axis, layout.shifts.stop, 2)
        at = np.flatnonzero(np.isin(free, list(shifts)))
        if not at.size:
            continue
        transform[np.ix_(at, at)] -= width[at] / width[at][:, None] / len(at)
        for a0 in np.flatnonzero(free == INDEX[name]):
            transform[a0, at] += width[at] / width[a0] / len(at)
    return transform @ covariance @ transform.T


def known_without_image(coordinates: Coordinates) -> Float[np.ndarray, " p"]:
    """Standard deviations of the free coordinates before any image, in the unit cube: their priors,
    or a uniform distribution over their bounds."""
    return least_known(coordinates.host().prior_std)


def least_known(prior_std: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """Standard deviations in the unit cube of what has priors `prior_std` (infinite: none)."""
    return np.minimum(prior_std, np.sqrt(1.0 / 12.0))


def determined_std(
    std: Float[np.ndarray, " p"], known: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Standard errors, infinite where they say little more than what was `known` without the
    image, or are no numbers."""
    return np.where(np.isfinite(std) & (std < UNDETERMINED * known), std, np.inf)
