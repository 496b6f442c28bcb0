"""What a refined field says: one atomic model, its surfaces, displacements and polarisation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.result import ColumnShift, Displacement, Polarisation, Shift, Surface
from qhrtem_jax.field.simulate import lattice_offsets
from qhrtem_jax.io.models import AtomModel
from qhrtem_jax.physics.columns import Chain, Columns
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.reporting.column_tables import PM, place_errors

ANION = "O"
ELEMENTARY_CHARGE_C = 1.602176634e-19


def model_of_field(
    model: FieldModel,
    state: JointState,
    end_nm: Float[np.ndarray, " regions"],
    entries: Sequence[RegionEntry],
) -> AtomModel:
    """The model of all regions, each at its place; `end_nm`: how far the stack of each ends above
    the deepest; `entries` know how sure the places are."""
    columns, layout, sites = model.columns, model.layout, model.sites
    rows, cols = model.cells.shape
    places = np.array(np.unravel_index(model.cells.region_cells, (rows, cols))).T
    corner = places.min(axis=0)
    extent = places.max(axis=0) - corner + 1
    heights = (end_nm.max() - end_nm) / model.unit_nm
    units = heights.max() + model.region_units
    size = (
        columns.size_nm[0] * extent[1],
        columns.size_nm[1] * extent[0],
        float(model.unit_nm * units),
    )
    symbols: list[str] = []
    positions, occupancy, b_nm2, owners = [], [], [], []
    offsets = lattice_offsets(model, state, end_nm)
    for k, place in enumerate(places - corner):
        point = state.points[k]
        taken = sites.occupied(np.rint(point[layout.counts]), state.stack.begins[k])
        shifts = point[layout.shifts].reshape(-1, 2) + offsets[k]
        for site in np.flatnonzero(taken):
            chain = columns.chains[sites.chain[site]]
            x, y = columns.xy_nm[chain.column] + shifts[chain.column]
            x, y = x + place[1] * columns.size_nm[0], y + place[0] * columns.size_nm[1]
            z = sites.z[site] + heights[k]
            symbols.append(chain.symbol)
            positions.append([x / size[0], y / size[1], z / units])
            occupancy.append(point[layout.occupancies.start + sites.chain[site]])
            b_nm2.append(chain.b_nm2)
            owners.append(entries[k].columns[chain.column])
    atoms = Atoms(
        tuple(symbols),
        np.array(positions).reshape(-1, 3),
        np.clip(occupancy, 0.0, 1.0),
        np.array(b_nm2),
    )
    return AtomModel(size, atoms, "model of the field", place_errors(size, owners))


def surfaces(model: FieldModel, state: JointState, k: int) -> tuple[Surface, ...]:
    """First and last slice of each chain of region `k` in the field's stack (from 1 to the number
    of slices; null where the chain is empty)."""
    columns, sites = model.columns, model.sites
    taken = sites.occupied(np.rint(state.points[k, model.layout.counts]), state.stack.begins[k])
    table = []
    for c, chain in enumerate(columns.chains):
        mine = sites.slice[taken & (sites.chain == c)] + state.stack.heights[k] * columns.slices
        x, y = columns.xy[chain.column]
        table.append(
            Surface(
                chain.symbol,
                float(x),
                float(y),
                int(mine.min()) + 1 if mine.size else None,
                int(mine.max()) + 1 if mine.size else None,
            )
        )
    return tuple(table)


def displaced_species(columns: Columns) -> str | None:
    """The species whose displacement against oxygen is reported: the first (of the cell) that has
    columns of its own besides oxygen; None where there is no oxygen in columns of its own."""
    alone = _alone(columns)
    if not any(c.symbol == ANION for c in alone):
        return None
    others = [c.symbol for c in alone if c.symbol != ANION]
    return others[0] if others else None


def _alone(columns: Columns) -> list[Chain]:
    """Chains that have a column of their own."""
    return [c for c in columns.chains if sum(d.column == c.column for d in columns.chains) == 1]


def _columns_of(columns: Columns, species: str) -> list[int]:
    """Columns of nothing but `species`."""
    return [c.column for c in _alone(columns) if c.symbol == species]


def cation_weights(columns: Columns, species: str) -> Float[np.ndarray, "cations columns"]:
    """What of the columns' shifts makes up the displacement of each pure column of `species`
    against the mean of its nearest pure oxygen columns."""
    anions, cations = np.array(_columns_of(columns, ANION)), _columns_of(columns, species)
    size = np.array(columns.size_nm[:2])
    weights = np.zeros((len(cations), len(columns.xy)))
    for row, cation in zip(weights, cations, strict=True):
        apart = columns.xy[anions] - columns.xy[cation]
        distance = np.hypot(*((apart - np.rint(apart)) * size).T)
        near = anions[distance < 1.1 * distance.min()]
        row[cation] = 1.0
        row[near] -= 1.0 / len(near)
    return weights


def displacements(
    columns: Columns,
    shifts_nm: Float[np.ndarray, "columns 2"],
    covariance_nm2: Float[np.ndarray, "2*columns 2*columns"],
    scale: float,
) -> Displacement | None:
    """Displacement of the cations against the oxygen columns beside them, in one cell.

    **Arguments:** `covariance_nm2`, of x and y of each column; `scale` of the errors by the
    misfit.

    **Returns:** each cation column against the mean of its nearest pure oxygen columns, and their
    mean over the cell, in pm; None where the crystal has no such columns.
    """
    species = displaced_species(columns)
    if species is None:
        return None
    weights = cation_weights(columns, species)
    entries = tuple(
        ColumnShift(
            **_vector(row, shifts_nm, covariance_nm2, scale),
            x=float(columns.xy[cation, 0]),
            y=float(columns.xy[cation, 1]),
        )
        for cation, row in zip(_columns_of(columns, species), weights, strict=True)
    )
    mean = Shift(**_vector(weights.mean(axis=0), shifts_nm, covariance_nm2, scale))
    return Displacement(species, ANION, entries, mean)


def _vector(
    weights: np.ndarray, shifts_nm: np.ndarray, covariance_nm2: np.ndarray, scale: float
) -> dict[str, float]:
    found = PM * weights @ shifts_nm
    std = [
        scale * PM * float(np.sqrt(weights @ covariance_nm2[axis::2, axis::2] @ weights))
        for axis in (0, 1)
    ]
    return {
        "dx_pm": float(found[0]),
        "dy_pm": float(found[1]),
        "std_dx_pm": std[0],
        "std_dy_pm": std[1],
    }


def polarisation(
    columns: Columns,
    charges: dict[str, float],
    shifts_nm: Float[np.ndarray, "columns 2"],
    covariance_nm2: Float[np.ndarray, "2*columns 2*columns"],
    scale: float,
) -> Polarisation:
    """Polarisation of a cell in uC/cm^2: sum of Born effective charges times displacements over the
    volume (Resta, Posternak, Baldereschi, Phys. Rev. Lett. 70, 1010, 1993).

    Charges are shifted by a constant to add up to zero, so that moving the cell changes nothing.
    """
    per_column = np.zeros(len(columns.xy))
    number = columns.atoms_per_cell()
    mean = sum(charges[c.symbol] * n for c, n in zip(columns.chains, number, strict=True))
    mean /= number.sum()
    for chain, n in zip(columns.chains, number, strict=True):
        per_column[chain.column] += (charges[chain.symbol] - mean) * n
    volume = float(np.prod(columns.size_nm))
    unit = 100.0 * ELEMENTARY_CHARGE_C * 1e-9 / (volume * 1e-27)  # uC/cm^2 per charge and nm
    value = unit * per_column @ shifts_nm
    std = [
        scale * unit * float(np.sqrt(per_column @ covariance_nm2[a::2, a::2] @ per_column))
        for a in (0, 1)
    ]
    return Polarisation(float(value[0]), float(value[1]), std[0], std[1])
