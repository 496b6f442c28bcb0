"""Where least squares starts: the best points of a search that differ from each other."""

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
) -> list[int]:
    """Indices of the best points that differ from each other, best first; points of the unit cube,
    their thicknesses and objectives."""
    chosen: list[int] = []
    for k in np.argsort(np.where(np.isfinite(values), values, np.inf)):
        if not np.isfinite(values[k]):
            break
        same = [
            thickness[k] == thickness[j] and np.max(np.abs(unit[k] - unit[j])) < DISTINCT
            for j in chosen
        ]
        shared = sum(thickness[j] == thickness[k] for j in chosen)
        if not any(same) and shared < SAME_THICKNESS:
            chosen.append(int(k))
        if len(chosen) == count:
            break
    return chosen
