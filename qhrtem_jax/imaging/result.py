"""Imaging parameters, as a result."""

import dataclasses

from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, Covariance, FitResult


@dataclasses.dataclass(frozen=True)
class OwnParameter:
    """A parameter that each of several means has for itself."""

    value: float
    std: float | None
    std_noise: float | None


@dataclasses.dataclass(frozen=True)
class Mean:
    """One of several means that were fitted together."""

    mse: float
    thickness: int
    C1: OwnParameter
    absorption: OwnParameter
    A0_x: OwnParameter
    A0_y: OwnParameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagingResult(FitResult):
    """The imaging parameters of a mean image, or of several `means` of different thickness; the
    probability of each number of slices, the least objective that gradients reached at each, and
    the covariance of the parameters (of one mean), scaled by the misfit as `std` is."""

    thickness_probability: dict[str, float] | None = dataclasses.field(
        default=None, metadata=OPTIONAL
    )
    thickness_objective: dict[str, float] | None = dataclasses.field(
        default=None, metadata=OPTIONAL
    )
    covariance: Covariance | None = dataclasses.field(default=None, metadata=OPTIONAL)
    means: tuple[Mean, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    bounds: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict, metadata=ASIDE)
    slice_nm: float = dataclasses.field(default=0.0, metadata=ASIDE)
