"""What a result says of one region."""

import dataclasses

from qhrtem_jax.reporting.column_tables import Column, Count, Estimate
from qhrtem_jax.reporting.result import OPTIONAL, Correlation, Fit, Parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionEntry:
    """A region of interest: where it is, how well it fits, its own imaging parameters (at its exit
    plane), the numbers of atoms, the columns; `thickness_nm` from the first to the last atom's
    slice; `certified`: no change of numbers that was looked at improves it; `exit_probability`: of
    each slice that the last atom may be in, counted from 1 in the stack (after the joint
    refinement, in that of the field, and to 1 in 160, as many states as are drawn);
    `exit_rests_on`: the chain whose last atom, if it is there, alone makes the exit; `corners_px`:
    of a prepared one, (x, y) in pixels of the file, in the order origin, +a, +a+b, +b."""

    name: str
    origin_px: tuple[int, int]
    fit: Fit
    parameters: dict[str, Parameter]
    counts: tuple[Count, ...]
    columns: tuple[Column, ...]
    thickness_nm: float
    certified: bool | None
    mtf_scale: dict[str, Estimate] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    correlations: tuple[Correlation, ...] | None = dataclasses.field(
        default=None, metadata=OPTIONAL
    )
    exit_probability: dict[str, float] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    exit_rests_on: str | None = dataclasses.field(default=None, metadata=OPTIONAL)
    corners_px: tuple[tuple[float, float], ...] | None = dataclasses.field(
        default=None, metadata=OPTIONAL
    )
