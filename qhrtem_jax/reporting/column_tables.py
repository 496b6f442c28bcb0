"""Columns, counts and models of fitted points, as results hold them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.physics.columns import Columns, Sites
from qhrtem_jax.physics.parameters import NAMES
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.reporting.result import OPTIONAL

PM = 1e3


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its standard error; null where the image does not determine it."""

    value: float
    std: float | None


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the projected cell: `x`, `y` in fractions of the cell, its shift against the cell
    in pm, and the occupancies of its species; `x_px`, `y_px`: where it is, shift included, in
    pixels of the file of a prepared image."""

    x: float
    y: float
    dx_pm: float
    dy_pm: float
    std_dx_pm: float | None
    std_dy_pm: float | None
    occupancy: dict[str, Estimate]
    x_px: float | None = dataclasses.field(default=None, metadata=OPTIONAL)
    y_px: float | None = dataclasses.field(default=None, metadata=OPTIONAL)


@dataclasses.dataclass(frozen=True)
class Count:
    """Number of atoms of a species in a column, with the probability of each number; `x_px`,
    `y_px`: where the cell has the column, in pixels of the file of a prepared image."""

    species: str
    x: float
    y: float
    n: int
    probability: dict[str, float]
    x_px: float | None = dataclasses.field(default=None, metadata=OPTIONAL)
    y_px: float | None = dataclasses.field(default=None, metadata=OPTIONAL)


def in_file(
    counts: tuple[Count, ...],
    columns: tuple[Column, ...],
    corners: Float[np.ndarray, "4 2"],
    size_nm: tuple[float, float, float],
) -> tuple[tuple[Count, ...], tuple[Column, ...]]:
    """The same, with where they are in a file that shows the cell's `corners` (origin, +a, +a+b,
    +b) at these (x, y) pixels."""
    first, a, b = corners[0], corners[1] - corners[0], corners[3] - corners[0]

    def at(x: float, y: float) -> dict[str, float]:
        place = first + x * a + y * b
        return {"x_px": float(place[0]), "y_px": float(place[1])}

    return (
        tuple(dataclasses.replace(c, **at(c.x, c.y)) for c in counts),
        tuple(
            dataclasses.replace(
                c, **at(c.x + c.dx_pm / PM / size_nm[0], c.y + c.dy_pm / PM / size_nm[1])
            )
            for c in columns
        ),
    )


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
    point: Float[np.ndarray, " point"],
    std_noise: Float[np.ndarray, " point"],
    scale: float,
    *,
    remove_mean: bool = True,
) -> tuple[Column, ...]:
    """The `columns` of a result; `std_noise` over the whole point, NaN where fixed, infinite where
    not determined."""
    shifts = point[layout.shifts].reshape(-1, 2)
    if remove_mean:
        shifts = shifts - shifts.mean(axis=0)
    shift_std = std_noise[layout.shifts].reshape(-1, 2)
    first = layout.occupancies.start
    return tuple(
        Column(
            float(x),
            float(y),
            float(shifts[k, 0] * PM),
            float(shifts[k, 1] * PM),
            _error(float(shift_std[k, 0] * PM), scale),
            _error(float(shift_std[k, 1] * PM), scale),
            {
                chain.symbol: Estimate(
                    float(point[first + c]), _error(float(std_noise[first + c]), scale)
                )
                for c, chain in enumerate(columns.chains)
                if chain.column == k
            },
        )
        for k, (x, y) in enumerate(columns.xy)
    )


def _error(value: float, scale: float) -> float | None:
    return float(value * scale) if np.isfinite(value) else None


def mtf_scale_table(
    layout: Layout,
    given: float,
    point: Float[np.ndarray, " point"],
    std_noise: Float[np.ndarray, " point"],
    scale: float,
) -> dict[str, Estimate]:
    """The `mtf_scale` of a result, along y and x; `given`: what it was before the fit."""
    stretch, std = point[layout.mtf_stretch], given * std_noise[layout.mtf_stretch]
    return {
        axis: Estimate(float(given * (1.0 + stretch[k])), _error(float(std[k]), scale))
        for k, axis in enumerate("yx")
    }


def counts_table(
    columns: Columns, counts: Num[np.ndarray, " chains"], probabilities: list[dict[int, float]]
) -> tuple[Count, ...]:
    """The `counts` of a region."""
    return tuple(
        Count(
            chain.symbol,
            float(columns.xy[chain.column, 0]),
            float(columns.xy[chain.column, 1]),
            round(float(counts[c])),
            {str(n): float(p) for n, p in probabilities[c].items()},
        )
        for c, chain in enumerate(columns.chains)
    )


def cell_structure(
    columns: Columns,
    shifts_nm: Float[np.ndarray, "columns 2"],
    occupancies: Float[np.ndarray, " chains"],
    z: list[Float[np.ndarray, " _"]],
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


def model_structure(columns: Columns, layout: Layout, point: Float[np.ndarray, " point"]) -> Atoms:
    """The repeating cell with the fitted positions and occupancies."""
    shifts = point[layout.shifts].reshape(-1, 2)
    heights = [np.array(chain.z) for chain in columns.chains]
    return cell_structure(columns, shifts, point[layout.occupancies], heights)


def cell_model(columns: Columns, atoms: Atoms, table: Sequence[Column]) -> AtomModel:
    """The repeating cell to be written, with the uncertainties of its columns' `table`."""
    owners = [chain for chain in columns.chains for _ in chain.z]
    shares = [table[chain.column].occupancy[chain.symbol].std for chain in owners]
    return AtomModel(
        columns.size_nm,
        atoms,
        "mean structure, one repeating cell",
        place_errors(columns.size_nm, [table[chain.column] for chain in owners]),
        np.array([np.nan if std is None else std for std in shares]),
    )


def place_errors(
    size_nm: tuple[float, float, float], columns: Sequence[Column]
) -> Float[np.ndarray, "atoms 2"]:
    """Standard uncertainties of x and y, in fractions of a cell, of atoms in some columns."""
    known = [[c.std_dx_pm, c.std_dy_pm] for c in columns]
    pm = np.array([[np.nan if s is None else s for s in pair] for pair in known]).reshape(-1, 2)
    return pm / PM / np.array(size_nm[:2])


def region_structure(
    columns: Columns, sites: Sites, layout: Layout, point: Float[np.ndarray, " point"]
) -> Atoms:
    """The atoms of a region, in a cell as high as the stack."""
    counts = np.rint(point[layout.counts])
    taken = sites.occupied(counts)
    cells = sites.stack // columns.slices
    heights = [
        np.sort(sites.z[taken & (sites.chain == c)] / cells) for c in range(len(columns.chains))
    ]
    shifts = point[layout.shifts].reshape(-1, 2)
    return cell_structure(columns, shifts, point[layout.occupancies], heights)
