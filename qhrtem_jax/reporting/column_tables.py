"""Columns, counts and models of fitted points, as results hold them."""

from typing import Any

import numpy as np

from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.physics.structured import Layout

PM = 1e3


def point_names(columns: Columns, layout: Layout) -> list[str]:
    """What each entry of a point is, for messages."""
    where = [f"column at {x:.3f}, {y:.3f}" for x, y in columns.xy]
    return [
        *NAMES,
        *(f"{axis} of the {where[k]}" for k in range(layout.columns) for axis in "xy"),
        *(f"number of {c.symbol} in the {where[c.column]}" for c in columns.chains),
        *(f"occupancy of {c.symbol} in the {where[c.column]}" for c in columns.chains),
        *(f"mtf_scale along {axis}" for axis in "yx"),
    ]


def columns_table(
    columns: Columns,
    layout: Layout,
    point: np.ndarray,
    std_noise: np.ndarray,
    scale: float,
    *,
    remove_mean: bool = True,
) -> list[dict[str, Any]]:
    """The `columns` of a result; `std_noise` over the whole point, NaN where fixed, infinite where
    not determined."""
    shifts = point[layout.shifts].reshape(-1, 2)
    if remove_mean:
        shifts = shifts - shifts.mean(axis=0)
    shift_std = std_noise[layout.shifts].reshape(-1, 2)
    table = []
    for k, (x, y) in enumerate(columns.xy):
        row: dict[str, Any] = {
            "x": float(x),
            "y": float(y),
            "dx_pm": float(shifts[k, 0] * PM),
            "dy_pm": float(shifts[k, 1] * PM),
            "std_dx_pm": _error(float(shift_std[k, 0] * PM), scale),
            "std_dy_pm": _error(float(shift_std[k, 1] * PM), scale),
        }
        row["occupancy"] = {
            chain.symbol: {
                "value": float(point[layout.occupancies.start + c]),
                "std": _error(float(std_noise[layout.occupancies.start + c]), scale),
            }
            for c, chain in enumerate(columns.chains)
            if chain.column == k
        }
        table.append(row)
    return table


def _error(value: float, scale: float) -> float | None:
    return float(value * scale) if np.isfinite(value) else None


def mtf_scale_table(
    layout: Layout, given: float, point: np.ndarray, std_noise: np.ndarray, scale: float
) -> dict[str, dict[str, float | None]]:
    """The `mtf_scale` of a result, along y and x; `given`: what it was before the fit."""
    stretch, std = point[layout.mtf_stretch], given * std_noise[layout.mtf_stretch]
    return {
        axis: {"value": float(given * (1.0 + stretch[k])), "std": _error(float(std[k]), scale)}
        for k, axis in enumerate("yx")
    }


def counts_table(
    columns: Columns, counts: np.ndarray, probabilities: list[dict[int, float]]
) -> list[dict[str, Any]]:
    """The `counts` of a region."""
    return [
        {
            "species": chain.symbol,
            "x": float(columns.xy[chain.column, 0]),
            "y": float(columns.xy[chain.column, 1]),
            "n": round(float(counts[c])),
            "probability": {str(n): p for n, p in probabilities[c].items()},
        }
        for c, chain in enumerate(columns.chains)
    ]


def cell_structure(
    columns: Columns, shifts_nm: np.ndarray, occupancies: np.ndarray, z: list[np.ndarray]
) -> Atoms:
    """Atoms of one cell; `z`: for each chain, the heights of its atoms in fractions of the cell."""
    size = np.array(columns.size_nm[:2])
    symbols, positions, occupancy, b_nm2 = [], [], [], []
    for c, chain in enumerate(columns.chains):
        xy = columns.xy[chain.column] + shifts_nm[chain.column] / size
        for height in z[c]:
            symbols.append(chain.symbol)
            positions.append([*xy, height])
            occupancy.append(occupancies[c])
            b_nm2.append(chain.b_nm2)
    return Atoms(
        tuple(symbols),
        np.array(positions).reshape(-1, 3),
        np.clip(np.array(occupancy), 0.0, 1.0),
        np.array(b_nm2),
    )


def model_structure(columns: Columns, layout: Layout, point: np.ndarray) -> Atoms:
    """The repeating cell with the fitted positions and occupancies."""
    shifts = point[layout.shifts].reshape(-1, 2)
    heights = [np.array(chain.z) for chain in columns.chains]
    return cell_structure(columns, shifts, point[layout.occupancies], heights)


def region_structure(columns: Columns, sites: Sites, layout: Layout, point: np.ndarray) -> Atoms:
    """The atoms of a region, in a cell as high as the stack."""
    counts = np.rint(point[layout.counts])
    taken = sites.occupied(counts)
    cells = sites.stack // columns.slices
    heights = [
        np.sort(sites.z[taken & (sites.chain == c)] / cells) for c in range(len(columns.chains))
    ]
    shifts = point[layout.shifts].reshape(-1, 2)
    return cell_structure(columns, shifts, point[layout.occupancies], heights)
