"""Positions and occupancies of columns, as a result."""

import dataclasses

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.reporting.column_tables import Column, Estimate
from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, FitResult


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of several crystals that were fitted to the image: its probability among them; the
    logarithm of its evidence less that of the most probable one; of what -2 log evidence is made:
    chi-square of the image and of the priors (positions, occupancies, imaging parameters), and the
    volume that is left of what was possible before (logarithm, squared), all three where columns
    are held to their places as closely as is most likely, `position_std_pm`; its fit, its largest
    shift of a column, and how its image differs from that of the most probable one (rms, in
    standard deviations of the noise)."""

    file: str
    probability: float
    log_evidence: float
    chi2_image: float
    chi2_priors: float
    log_volume: float
    position_std_pm: float
    mse: float
    thickness: int
    largest_shift_pm: float
    image_sigmas: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructureResult(FitResult):
    """The columns of the mean cell; `mtf_scale` where it was fitted; of several `candidates`, these
    and the result of the most probable one."""

    columns: tuple[Column, ...]
    mtf_scale: dict[str, Estimate] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    candidates: tuple[Candidate, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    cell: Columns = dataclasses.field(metadata=ASIDE)
