"""Crystals as columns of atoms along the beam: positions, occupancies and numbers of atoms.

A *column* is a projected position (x, y); all atoms on it move together. A *chain* is the atoms of
one species in one column; its atoms follow each other without gaps, so a number of atoms says it
all. Numbers may be fractions: the last atom then has the remaining occupancy (the continuous
relaxation of a count). Everything here is differentiable in positions, occupancies and numbers.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Inexact, Int, Num

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.grid import Grid
from qhrtem_jax.physics.specimen import Crystal, PotentialModel

FILLS = ("entrance", "exit", "centre")
"""Where columns start: at the entrance face, at the exit face, or in the middle of the stack."""

SAME_COLUMN_NM = 0.002
"""Atoms whose projections are closer than this belong to one column."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """Atoms of one species in one column: `column`, its index; `slices`, the slice of the cell in
    which each of its atoms lies, in the order of the beam; `z`, their heights in fractions of the
    cell (the simulator knows slices only, models that are written keep the heights)."""

    symbol: str
    b_nm2: float
    column: int
    occupancy: float
    slices: tuple[int, ...]
    z: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a cell: `xy`, fractions of the projected cell; their chains."""

    size_nm: tuple[float, float, float]
    slices: int
    xy: Float[np.ndarray, "columns 2"]
    chains: tuple[Chain, ...]

    @property
    def slice_nm(self) -> float:
        return self.size_nm[2] / self.slices

    @property
    def xy_nm(self) -> Float[np.ndarray, "columns 2"]:
        return self.xy * np.array(self.size_nm[:2])

    def grid(self, shape: tuple[int, int]) -> Grid:
        """Grid of `shape` = (rows, cols) over the projected cell."""
        return Grid(shape, (self.size_nm[1], self.size_nm[0]))

    def atoms_per_cell(self) -> Int[np.ndarray, " chains"]:
        """Atoms of each chain in one cell."""
        return np.array([len(chain.slices) for chain in self.chains])

    def most_atoms(self, cells: int) -> Int[np.ndarray, " chains"]:
        """Atoms of each chain in `cells` cells."""
        return cells * self.atoms_per_cell()

    def numbers_of_slices(self, slices: float) -> Float[np.ndarray, " chains"]:
        """Atoms of each chain among the first `slices` slices (a fraction: in proportion)."""
        whole = np.floor(slices)
        below, above = (
            np.array(
                [
                    sum((count - 1 - s) // self.slices + 1 for s in chain.slices if s < count)
                    for chain in self.chains
                ],
                dtype=float,
            )
            for count in (int(whole), int(whole) + 1)
        )
        return below + (slices - whole) * (above - below)


def repeat_columns(columns: Columns, rows: int, cols: int) -> Columns:
    """`rows` x `cols` cells side by side; cell (i, j) holds columns and chains number
    (i * cols + j) * (their number in one cell) and on."""
    size = (columns.size_nm[0] * cols, columns.size_nm[1] * rows, columns.size_nm[2])
    xy, chains = [], []
    for i in range(rows):
        for j in range(cols):
            first = len(columns.xy) * (i * cols + j)
            xy.append((columns.xy + np.array([j, i])) / np.array([cols, rows]))
            chains += [dataclasses.replace(c, column=c.column + first) for c in columns.chains]
    return Columns(size, columns.slices, np.concatenate(xy), tuple(chains))


def columns_of(crystal: Crystal) -> Columns:
    """Group the atoms of a cell into columns and chains.

    **Raises:** `InputError` where atoms of one species in one column differ in occupancy or
    Debye-Waller factor, so that one number could not stand for them.
    """
    atoms = crystal.atoms
    xy = np.mod(atoms.positions[:, :2] + 1e-9, 1.0) - 1e-9
    size = np.array(crystal.size_nm[:2])
    column_of, centres = _nearest_first(xy, size)
    where, heights = crystal.slice_of_atoms(), crystal.heights_of_atoms()
    groups: dict[tuple[int, str], list[int]] = {}
    for k, symbol in enumerate(atoms.symbols):
        groups.setdefault((column_of[k], symbol), []).append(k)
    chains = []
    for (column, symbol), members in groups.items():
        members.sort(key=lambda k: heights[k])
        first = members[0]
        if np.ptp(atoms.occupancy[members]) > 1e-9 or np.ptp(atoms.b_nm2[members]) > 1e-9:
            raise InputError(
                f"the {symbol} atoms at x, y = {np.round(xy[first], 4)} differ "
                "in occupancy or Debye-Waller factor; expected the same along a column"
            )
        chains.append(
            Chain(
                symbol,
                float(atoms.b_nm2[first]),
                column,
                float(atoms.occupancy[first]),
                tuple(int(where[k]) for k in members),
                tuple(float(heights[k]) for k in members),
            )
        )
    chains.sort(key=lambda c: c.column)
    return Columns(crystal.size_nm, crystal.slices, np.array(centres), tuple(chains))


def _nearest_first(xy: np.ndarray, size_nm: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Column of each point, and the points that opened a column: the first column that is closer
    than `SAME_COLUMN_NM`, or a new one. Only columns in neighbouring boxes are looked at."""
    boxes = np.maximum(np.floor(size_nm / (1.001 * SAME_COLUMN_NM)), 1.0)
    places = np.mod(np.floor(xy * boxes), boxes).astype(np.int64).tolist()
    wide, high = (int(n) for n in boxes)
    opened: dict[tuple[int, int], list[int]] = {}
    centres: list[np.ndarray] = []
    column_of: list[int] = []
    for point, (x, y) in zip(xy, places, strict=True):
        around = {((x + i) % wide, (y + j) % high) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        for k in sorted(k for box in around for k in opened.get(box, ())):
            apart = point - centres[k]
            if np.hypot(*((apart - np.rint(apart)) * size_nm)) < SAME_COLUMN_NM:
                column_of.append(k)
                break
        else:
            opened.setdefault((x, y), []).append(len(centres))
            column_of.append(len(centres))
            centres.append(point)
    return column_of, centres


@dataclasses.dataclass(frozen=True)
class Sites:
    """Where the atoms of chains may sit in a stack of slices.

    One entry per site: its `slice`, its height `z` in cells from the entrance, the `chain` it
    belongs to, and its `rank` (the site is taken when the chain has more than `rank` atoms).
    `entrance`: the first slice in which there are atoms.
    """

    slice: Int[np.ndarray, " sites"]
    z: Float[np.ndarray, " sites"]
    chain: Int[np.ndarray, " sites"]
    rank: Int[np.ndarray, " sites"]
    stack: int
    chains: int
    fill: str
    entrance: int = 0

    def occupied(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Bool[np.ndarray, "*batch sites"]:
        """Whether each site is taken (wholly or in part); `begins`: ranks of the chains' first
        atoms, where these are not 0."""
        if begins is None:
            return counts[..., self.chain] > self.rank
        here = begins[..., self.chain]
        return (here <= self.rank) & (self.rank < counts[..., self.chain] + here)

    def starts(
        self, counts: Num[np.ndarray, "*batch chains"]
    ) -> Float[np.ndarray, "*batch chains"]:
        """Place of each chain's first atom among its sites in the order of the beam: 0 where chains
        are filled from the first slice. Fractions follow fractional `counts`."""
        first = np.zeros(np.shape(counts))
        for c in range(self.chains):
            mine = np.flatnonzero(self.chain == c)
            mine = mine[np.argsort(self.slice[mine], kind="stable")]
            share = np.clip(np.asarray(counts)[..., c, None] - self.rank[mine], 0.0, 1.0)
            # what is missing before the last taken site: atoms end there, and are `counts` many
            taken = share > 0.0
            end = np.where(taken.any(-1), len(mine) - np.argmax(taken[..., ::-1], axis=-1), 0)
            last = np.take_along_axis(share, np.maximum(end - 1, 0)[..., None], axis=-1)[..., 0]
            whole = np.where(taken.any(-1), end - 1 + last, 0.0)
            begins = self.fill == "entrance" and self.entrance == 0
            first[..., c] = 0.0 if begins else whole - np.asarray(counts)[..., c]
        return np.maximum(first, 0.0)

    def per_slice(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Float[np.ndarray, "*batch stack"]:
        """Atoms in each slice, for whole `counts`."""
        here = np.eye(self.stack)[self.slice]
        return self.occupied(counts, begins).astype(float) @ here

    def extent(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> tuple[Int[np.ndarray, "*batch"], Int[np.ndarray, "*batch"]]:
        """First slice with an atom, and the one behind the last; 0, 0 if empty."""
        taken = self.per_slice(counts, begins) > 0
        some = taken.any(axis=-1)
        first = np.where(some, np.argmax(taken, axis=-1), 0)
        last = np.where(some, self.stack - np.argmax(taken[..., ::-1], axis=-1), 0)
        return first, last


def sites_of(columns: Columns, cells: int, fill: str = "entrance", entrance: int = 0) -> Sites:
    """Sites of `cells` cells along the beam; `fill` says from where chains are filled: from the
    entrance, which is before the slice `entrance` (sites before it are filled last)."""
    if fill not in FILLS:
        raise InputError(f"fill: found {fill!r}, expected one of {', '.join(FILLS)}")
    if not 0 <= entrance < columns.slices or (entrance and fill != "entrance"):
        raise InputError(
            f"entrance: found {entrance}, expected 0 to {columns.slices - 1}, and 0 where chains "
            "are not filled from the entrance"
        )
    stack = cells * columns.slices
    slices, heights, chains, ranks = [], [], [], []
    for index, chain in enumerate(columns.chains):
        at = np.array([m * columns.slices + s for m in range(cells) for s in chain.slices])
        middle = 0.5 * (stack - 1)
        late = np.where(at < entrance, stack + entrance - at, at)
        key = {"entrance": late, "exit": -at, "centre": np.abs(at - middle) + 1e-3 * (at > middle)}
        along = np.array([m + z for m in range(cells) for z in chain.z])
        order = np.lexsort((-along if fill == "exit" else along, key[fill]))
        rank = np.empty(len(at), dtype=int)
        rank[order] = np.arange(len(at))
        slices.append(at)
        heights.append(along)
        chains.append(np.full(len(at), index))
        ranks.append(rank)
    return Sites(
        np.concatenate(slices),
        np.concatenate(heights),
        np.concatenate(chains),
        np.concatenate(ranks),
        stack,
        len(columns.chains),
        fill,
        entrance,
    )


class ColumnPotential(eqx.Module):
    """Phase shifts of the slices of a stack of columns, on one grid.

    Chains are grouped by kind of atom and by the slice of the repeating unit in which they have
    atoms, so that a slice sums over its own chains only.
    """

    factors: Inexact[Array, "kinds rows cols"]  # Fourier coefficients of one atom's phase, rad
    q_y: Float[Array, " rows"]
    q_x: Float[Array, " cols"]
    base_nm: Float[Array, "columns 2"]  # x, y
    site_slice: Int[Array, " sites"]
    site_chain: Int[Array, " sites"]
    site_rank: Float[Array, " sites"]
    chain_column: tuple[int, ...] = eqx.field(static=True)
    groups: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...] = eqx.field(static=True)
    stack: int = eqx.field(static=True)

    def occupancy(
        self,
        counts: Float[Array, " chains"],
        occupancies: Float[Array, " chains"],
        starts: Float[Array, " chains"] | float = 0.0,
    ) -> Float[Array, "stack chains"]:
        """Atoms of each chain in each slice: those of rank `starts` to `starts + counts`."""
        counts, starts = jnp.broadcast_arrays(counts, jnp.asarray(starts, counts.dtype))
        begin, end = starts[self.site_chain], (starts + counts)[self.site_chain]
        share = jnp.clip(end - self.site_rank, 0.0, 1.0) - jnp.clip(
            begin - self.site_rank, 0.0, 1.0
        )
        table = jnp.zeros((self.stack, len(self.chain_column)), counts.dtype)
        return table.at[self.site_slice, self.site_chain].add(share) * occupancies

    def phases(
        self,
        shifts_nm: Float[Array, "columns 2"],
        occupancy: Float[Array, "stack chains"],
        absorption: Float[Array, "*chains"],
    ) -> Complex[Array, "stack rows cols"]:
        """Phase shift in rad of every slice; its imaginary part attenuates.

        `absorption`: imaginary fraction of the atoms' potentials, for all or for each chain.
        """
        xy = self.base_nm + shifts_nm
        along_y = jnp.exp(-2j * jnp.pi * xy[:, 1, None] * self.q_y)
        along_x = jnp.exp(-2j * jnp.pi * xy[:, 0, None] * self.q_x)
        weights = occupancy * (1.0 + 1j * absorption)
        slices = []
        period = len(self.groups)
        for which, group in enumerate(self.groups):
            total = jnp.zeros((), along_x.dtype)
            for kind, chains in group:
                columns = np.array([self.chain_column[c] for c in chains])
                weighted = weights[which::period, np.array(chains), None] * along_y[columns]
                count, number, rows = weighted.shape
                flat = jnp.moveaxis(weighted, 1, 2).reshape(count * rows, number)
                part = (flat @ along_x[columns]).reshape(count, rows, -1)
                total = total + self.factors[kind] * part
            shape = (self.stack // period, *self.factors.shape[1:])
            slices.append(jnp.broadcast_to(total, shape))
        stacked = jnp.stack(slices, axis=1).reshape(self.stack, *self.factors.shape[1:])
        return jnp.fft.ifft2(stacked, norm="forward")

    def phase_of(
        self,
        chains: Int[Array, " some"],
        shifts_nm: Float[Array, "columns 2"],
        weights: Complex[Array, " some"],
    ) -> Complex[Array, "rows cols"]:
        """Phase shift in rad that some chains make in one slice, `weights` atoms of each (imaginary
        parts attenuate)."""
        kinds = np.zeros(len(self.chain_column), dtype=int)
        for group in self.groups:
            for which, members in group:
                kinds[list(members)] = which
        mine, kind = (jnp.asarray(table)[chains] for table in (np.array(self.chain_column), kinds))
        xy = self.base_nm[mine] + shifts_nm[mine]
        along_y = weights[:, None] * jnp.exp(-2j * jnp.pi * xy[:, 1, None] * self.q_y)
        along_x = jnp.exp(-2j * jnp.pi * xy[:, 0, None] * self.q_x)
        # a product of matrices for each kind takes a tenth of the time of a sum over chains
        total = jnp.zeros((), along_x.dtype)
        for which, factor in enumerate(self.factors):
            of_kind = jnp.where((kind == which)[:, None], along_y, 0.0)
            total = total + factor * (of_kind.T @ along_x)
        return jnp.fft.ifft2(total, norm="forward")


def make_potential(
    columns: Columns, sites: Sites, model: PotentialModel, grid: Grid, dtype: jnp.dtype
) -> ColumnPotential:
    """Tabulate the atoms' phases on `grid`."""
    kinds = sorted({(chain.symbol, chain.b_nm2) for chain in columns.chains})
    groups = tuple(
        tuple(
            (index, chains)
            for index, kind in enumerate(kinds)
            if (
                chains := tuple(
                    k
                    for k, c in enumerate(columns.chains)
                    if (c.symbol, c.b_nm2) == kind and which in c.slices
                )
            )
        )
        for which in range(columns.slices)
    )
    q_y, q_x = grid.axes()
    factors = np.array([model.atom_phase(symbol, b, grid) for symbol, b in kinds])
    complex_too = np.iscomplexobj(factors)
    return ColumnPotential(
        factors=jnp.asarray(factors, np.result_type(dtype, np.complex64) if complex_too else dtype),
        q_y=jnp.asarray(q_y, dtype),
        q_x=jnp.asarray(q_x, dtype),
        base_nm=jnp.asarray(columns.xy_nm, dtype),
        site_slice=jnp.asarray(sites.slice, jnp.int32),
        site_chain=jnp.asarray(sites.chain, jnp.int32),
        site_rank=jnp.asarray(sites.rank, dtype),
        chain_column=tuple(chain.column for chain in columns.chains),
        groups=groups,
        stack=sites.stack,
    )
