"""Where least squares starts: the best points of a search that differ from each other."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DISTINCT = 0.15
"""Starts of least squares differ by this much in some coordinate of the unit cube, or in
thickness."""
SAME_THICKNESS = 2
"""So many starts of least squares may share a thickness: slice counts off by a few are traps."""


def distinct_starts(
    unit: Float[np.ndarray, "n d"],
    thickness: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    count: int,
    taken: Sequence[int] = (),
    most: int | None = SAME_THICKNESS,
) -> list[int]:
    """Indices of the best points that differ from each other, and from those `taken` before, best
    first; points of the unit cube, their thicknesses and objectives. `most`: so many may share a
    thickness, those taken among them; None: any number."""
    chosen = list(taken)
    for k in np.argsort(np.where(np.isfinite(values), values, np.inf)):
        if not np.isfinite(values[k]):
            break
        same = [
            thickness[k] == thickness[j] and np.max(np.abs(unit[k] - unit[j])) < DISTINCT
            for j in chosen
        ]
        shared = sum(thickness[j] == thickness[k] for j in chosen)
        if not any(same) and (most is None or shared < most):
            chosen.append(int(k))
        if len(chosen) == len(taken) + count:
            break
    return chosen[len(taken) :]
