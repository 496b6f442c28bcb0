"""Atoms in a cell, their projected potentials, and the stack of slices that the beam crosses."""

import dataclasses

import numpy as np
from jaxtyping import Float64, Inexact, Int64

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.constants import electron_wavelength_nm, relativistic_gamma
from qhrtem_jax.physics.grid import Grid
from qhrtem_jax.physics.scattering import absorptive_factor, atomic_number, scattering_factor

TYPED = 1e-6
"""Coordinates typed with six digits err by less: 1/3 must not fall into the slice before it."""


LARGEST_B_NM2 = 1.0
"""Atoms that move by more than 0.1 nm are no crystal."""


@dataclasses.dataclass(frozen=True)
class Atoms:
    """Atoms of a cell: element, position in fractions of the cell, occupancy, Debye-Waller factor.

    `b_nm2` is the isotropic B of exp(-B q^2 / 4), B = 8 pi^2 <u^2>, in nm^2.
    """

    symbols: tuple[str, ...]
    positions: Float64[np.ndarray, "atoms 3"]  # fractions x, y, z
    occupancy: Float64[np.ndarray, " atoms"]
    b_nm2: Float64[np.ndarray, " atoms"]

    def __post_init__(self) -> None:
        count = len(self.symbols)
        shapes = (self.positions.shape, self.occupancy.shape, self.b_nm2.shape)
        if shapes != ((count, 3), (count,), (count,)):
            raise InputError(f"atoms: found arrays of shapes {shapes} for {count} symbols")
        if not np.all((self.occupancy >= 0.0) & (self.occupancy <= 1.0)):
            raise InputError("atoms: found an occupancy outside 0..1")
        if np.any(self.b_nm2 > LARGEST_B_NM2):
            raise InputError(
                f"found B {self.b_nm2.max():g} nm^2, expected at most {LARGEST_B_NM2:g}: "
                "is it in Angstrom^2?"
            )
        if not np.all((self.b_nm2 >= 0.0) & np.isfinite(self.b_nm2)):
            raise InputError("atoms: found a Debye-Waller factor that is negative or not finite")
        if not np.all(np.isfinite(self.positions)):
            raise InputError("atoms: found a position that is not finite")
        for symbol in sorted(set(self.symbols)):
            atomic_number(symbol)


MIN_HEIGHT_NM = 0.1
"""No lattice planes are closer than atoms: a lower cell has the wrong unit or the wrong angles."""


@dataclasses.dataclass(frozen=True)
class UnitCell:
    """A crystal as it is, in a cell of any shape: no beam, no slices.

    `lengths_nm`: a, b, c; `angles_deg`: alpha (between b and c), beta (a, c), gamma (a, b).

    **Raises:** `InputError` where lengths and angles make no cell.
    """

    lengths_nm: tuple[float, float, float]
    angles_deg: tuple[float, float, float]
    atoms: Atoms

    def __post_init__(self) -> None:
        check_cell(self.lengths_nm, self.angles_deg)

    @property
    def metric(self) -> Float64[np.ndarray, "3 3"]:
        """Scalar products of the cell's edges, nm^2."""
        return metric_of(self.lengths_nm, self.angles_deg)

    @property
    def volume_nm3(self) -> float:
        return float(np.sqrt(np.linalg.det(self.metric)))

    @property
    def edges_nm(self) -> Float64[np.ndarray, "3 3"]:
        """The edges a, b, c as rows: a along x, b in the x, y plane."""
        return np.asarray(np.linalg.cholesky(self.metric), dtype=np.float64)


def metric_of(
    lengths_nm: tuple[float, float, float], angles_deg: tuple[float, float, float]
) -> Float64[np.ndarray, "3 3"]:
    """Scalar products of a cell's edges, nm^2."""
    # as degrees away from a right angle: the sine of 0 is exact, the cosine of 90 degrees is not
    cosines = np.sin(np.deg2rad(90.0 - np.array(angles_deg)))
    metric = np.eye(3)
    for (i, j), cosine in zip(((1, 2), (0, 2), (0, 1)), cosines, strict=True):
        metric[i, j] = metric[j, i] = cosine
    return metric * np.outer(lengths_nm, lengths_nm)


def heights_of(metric: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, " 3"]:
    """Distances between opposite faces of a cell, nm."""
    return 1.0 / np.sqrt(np.diag(np.linalg.inv(metric)))


def check_cell(
    lengths_nm: tuple[float, float, float], angles_deg: tuple[float, float, float]
) -> None:
    """**Raises:** `InputError` where lengths and angles make no cell."""
    if not all(MIN_HEIGHT_NM <= length < 1e6 for length in lengths_nm):
        raise InputError(
            f"found cell lengths {lengths_nm} nm, expected {MIN_HEIGHT_NM} nm or more each"
        )
    if not all(0.0 < angle < 180.0 for angle in angles_deg):
        raise InputError(f"found cell angles {angles_deg} degrees, expected 0 to 180")
    unit = metric_of((1.0, 1.0, 1.0), angles_deg)
    if np.linalg.det(unit) < 1e-4:
        raise InputError(f"cell angles {angles_deg} degrees do not close to a cell")
    if heights_of(metric_of(lengths_nm, angles_deg)).min() < MIN_HEIGHT_NM:
        raise InputError(
            f"found a cell of {lengths_nm} nm, {angles_deg} degrees with faces closer than "
            f"{MIN_HEIGHT_NM} nm, expected a crystal's cell"
        )


@dataclasses.dataclass(frozen=True)
class Crystal:
    """A right-angled cell: beam along z, the first slice (small z) is hit first.

    `size_nm` = (a, b, c) along x, y, z. The cell is cut into `slices` of equal thickness; an atom
    belongs wholly to slice floor(slices * z).
    """

    size_nm: tuple[float, float, float]
    atoms: Atoms
    slices: int

    def __post_init__(self) -> None:
        if not all(np.isfinite(s) and s > 0.0 for s in self.size_nm):
            raise InputError(f"the cell: found {self.size_nm} nm, expected positive lengths")
        if self.slices < 1:
            raise InputError(f"slices: found {self.slices}, expected at least 1")
        if not self.atoms.symbols:
            raise InputError("the cell: found no atoms")

    @property
    def slice_thickness_nm(self) -> float:
        return self.size_nm[2] / self.slices

    def slice_of_atoms(self) -> Int64[np.ndarray, " atoms"]:
        """Slice index of each atom; z is wrapped into the cell first."""
        z = np.mod(self.atoms.positions[:, 2] + TYPED, 1.0)
        return np.minimum((z * self.slices).astype(np.int64), self.slices - 1)

    def heights_of_atoms(self) -> Float64[np.ndarray, " atoms"]:
        """z of each atom in fractions of the cell, wrapped into it, and not before its slice, where
        few digits may have put it."""
        z = np.mod(self.atoms.positions[:, 2] + TYPED, 1.0) - TYPED
        return np.maximum(z, self.slice_of_atoms() / self.slices)

    def grid(self, shape: tuple[int, int]) -> Grid:
        """The cell's wave grid of `shape` = (rows, columns)."""
        return Grid(shape, (self.size_nm[1], self.size_nm[0]))


@dataclasses.dataclass(frozen=True)
class PotentialModel:
    """How atoms scatter.

    `low_pass_edge`: multiply the potential by 0.5 - 0.5 tanh(30 (q / q_Nyquist - 0.9)), as celslc
    does; off in the physical mode, where the band limit alone cuts.
    `thermal_absorption`: what the mean wave loses to the atoms' vibrations attenuates it.
    """

    parametrization: str = "weickenmeier_kohl"
    high_tension_kv: float = 300.0
    low_pass_edge: bool = False
    thermal_absorption: bool = False

    def atom_phase(self, symbol: str, b_nm2: float, grid: Grid) -> Inexact[np.ndarray, "rows cols"]:
        """Fourier coefficients of one atom's phase shift in rad.

        gamma lambda f_e(q) exp(-B q^2 / 4) / area: an unnormalised inverse FFT gives the phase
        sigma * integral V dz on the grid (Kirkland, section 5.4). With thermal absorption they are
        those of a complex phase, whose imaginary part attenuates: the coefficients of two real
        functions, one of them times i.
        """
        q_y, q_x = grid.frequencies()
        q = np.hypot(q_y, q_x)
        scale = relativistic_gamma(self.high_tension_kv) * electron_wavelength_nm(
            self.high_tension_kv
        )
        factor = scattering_factor(self.parametrization, symbol, q) * np.exp(-b_nm2 * q**2 / 4.0)
        if self.thermal_absorption:
            lost = absorptive_factor(self.parametrization, symbol, q, b_nm2)
            factor = factor + 1j * scale * lost
        if self.low_pass_edge:
            factor = factor * (0.5 - 0.5 * np.tanh(30.0 * (q / grid.nyquist - 0.9)))
        return scale * factor / (grid.size_nm[0] * grid.size_nm[1])


def slice_phases(
    crystal: Crystal, model: PotentialModel, grid: Grid
) -> Inexact[np.ndarray, "slices rows cols"]:
    """Phase shift in rad of every slice of the cell, on the host; complex with thermal
    absorption."""
    q_y, q_x = grid.axes()
    atoms = crystal.atoms
    where = crystal.slice_of_atoms()
    total = np.zeros((crystal.slices, *grid.shape), dtype=np.complex128)
    kinds = sorted({(s, float(b)) for s, b in zip(atoms.symbols, atoms.b_nm2, strict=True)})
    for symbol, b_nm2 in kinds:
        factor = model.atom_phase(symbol, b_nm2, grid)
        same = np.array([s == symbol for s in atoms.symbols]) & (atoms.b_nm2 == b_nm2)
        for index in np.unique(where[same]):
            chosen = same & (where == index)
            x = atoms.positions[chosen, 0] * crystal.size_nm[0]
            y = atoms.positions[chosen, 1] * crystal.size_nm[1]
            phase_y = np.exp(-2j * np.pi * q_y[:, None] * y) * atoms.occupancy[chosen]
            total[index] += factor * (phase_y @ np.exp(-2j * np.pi * x[:, None] * q_x))
    phases = np.fft.ifft2(total, norm="forward")
    return phases if model.thermal_absorption else phases.real
