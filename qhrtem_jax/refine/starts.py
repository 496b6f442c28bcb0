"""Where least squares starts: the best points of a search that differ from each other."""

import numpy as np

from qhrtem_jax.physics.parameters import INDEX

DISTINCT = 0.15
"""Starts of least squares differ by this much in some coordinate of the unit cube, or in
thickness."""
SAME_THICKNESS = 2
"""So many starts of least squares may share a thickness: slice counts off by a few are traps."""


def distinct_starts(
    vectors: np.ndarray,
    values: np.ndarray,
    indices: np.ndarray,
    low: np.ndarray,
    width: np.ndarray,
    count: int,
) -> list[int]:
    """Indices of the best vectors that differ from each other, best first."""
    unit = (vectors[:, indices] - low) / width
    chosen: list[int] = []
    for k in np.argsort(np.where(np.isfinite(values), values, np.inf)):
        if not np.isfinite(values[k]):
            break
        same = [
            vectors[k, INDEX["thickness"]] == vectors[j, INDEX["thickness"]]
            and np.max(np.abs(unit[k] - unit[j])) < DISTINCT
            for j in chosen
        ]
        thickness = vectors[k, INDEX["thickness"]]
        shared = sum(vectors[j, INDEX["thickness"]] == thickness for j in chosen)
        if not any(same) and shared < SAME_THICKNESS:
            chosen.append(int(k))
        if len(chosen) == count:
            break
    return chosen
