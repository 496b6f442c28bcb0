"""Truth of the synthetic experiments, in this project's order of columns and chains."""

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.field import FieldState
from qhrtem_jax.physics.parameters import INDEX, default_vector


def chain_order(columns: Columns, names) -> np.ndarray:
    """Our chain of each "Ba2+ x y"."""
    found = []
    for name in names:
        label, x, y = str(name).split()
        symbol = label.rstrip("0123456789+-")
        near = [np.hypot(*(columns.xy[c.column] - [float(x), float(y)])) for c in columns.chains]
        same = [c.symbol == symbol and d < 1e-3 for c, d in zip(columns.chains, near, strict=True)]
        found.append(same.index(True))
    return np.array(found)


def column_order(columns: Columns, positions) -> np.ndarray:
    """Our column of each (x, y)."""
    return np.array([int(np.argmin(np.hypot(*(columns.xy - xy).T))) for xy in np.array(positions)])


def field_vector(truth: dict) -> np.ndarray:
    """Imaging parameters of a synthetic field; C1 and A0 at its reference plane."""
    known, vector = truth["parameters_drprobe"], default_vector()
    for name in ("A1", "B2", "A2", "S3", "A3"):
        vector[INDEX[name + "_x"]], vector[INDEX[name + "_y"]] = known[name]
    vector[INDEX["A0_x"]], vector[INDEX["A0_y"]] = known["A0_nm"]
    vector[INDEX["tilt_x"]], vector[INDEX["tilt_y"]] = known["tilt_mrad"]
    for name, key in (
        ("C1", "C1_global"),
        ("C3", "C3"),
        ("C5", "C5"),
        ("focus_spread", "focus_spread_nm"),
        ("semi_convergence", "semi_convergence_mrad"),
        ("image_spread", "image_spread_nm"),
        ("absorption", "absorption"),
    ):
        vector[INDEX[name]] = known[key]
    return vector


def field_state(columns: Columns, truth: dict, shape: tuple[int, int]) -> FieldState:
    """The true field; cells beyond the frame copy their neighbours, a last row is vacuum."""
    chains = chain_order(columns, truth["column_order"])
    places = column_order(columns, truth["position_order"])
    size = (*shape, len(columns.chains))
    counts, starts = np.zeros(size), np.zeros(size)
    shifts = np.zeros((*shape, len(columns.xy), 2))
    rois = {(r["origin_px"][0] // 45, r["origin_px"][1] // 64): r for r in truth["rois"]}
    rows, cols = (max(k[axis] for k in rois) for axis in (0, 1))
    for i in range(shape[0] - 1):
        for j in range(shape[1]):
            column = 0 if j == shape[1] - 1 else min(j, cols)
            roi = rois.get((min(i, rows), column))
            if roi is None:
                continue
            counts[i, j, chains] = roi["counts"]
            starts[i, j] = roi["entrance_slice"] // columns.slices * columns.atoms_per_cell()
            if (i, j) in rois:
                shifts[i, j, places] = np.array(roi["shift_pm"]) * 1e-3
    vector, cells = field_vector(truth), shape[0] * shape[1]
    return FieldState(
        jnp.float32(vector),
        jnp.float32(counts.reshape(cells, -1)),
        jnp.float32(starts.reshape(cells, -1)),
        jnp.float32(shifts.reshape(cells, -1, 2)),
        jnp.ones((cells, len(columns.chains)), jnp.float32),
        jnp.full(cells, vector[INDEX["absorption"]], jnp.float32),
        jnp.zeros(2, jnp.float32),
    )
