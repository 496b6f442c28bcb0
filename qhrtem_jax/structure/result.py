"""Positions and occupancies of columns, as a result."""

import dataclasses

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.reporting.column_tables import Column, Estimate
from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, FitResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructureResult(FitResult):
    """The columns of the mean cell; `mtf_scale` where it was fitted."""

    columns: tuple[Column, ...]
    mtf_scale: dict[str, Estimate] | None = dataclasses.field(default=None, metadata=OPTIONAL)
    cell: Columns = dataclasses.field(metadata=ASIDE)
