"""Exit waves of BaTiO3 [110] computed with abTEM, and with a short independent multislice.

abTEM (https://abtem.github.io, GPL-3) serves as an outside program here; nothing else depends on it.

    pip install abtem ase
    python abtem_exit_wave.py --cel BTO110.cel --out exit_waves.npz --report exit_waves.json

What is computed: 300 kV, static atoms (B = 0), plane wave along the column axis, four equal slices per cell,
each atom projected as a whole ("infinite" projection) into slice ``floor(4 z)``, periodic in x and y.

Facts about abTEM 1.0.11 that matter for a comparison (the report puts numbers to them):

* The step is ``psi <- P * (t psi)``, once per slice: the exit wave includes the propagation behind the last slice.
  ``t = exp(i sigma V)`` with V the projected potential in volt Angstrom and sigma = 2 pi m e lambda / h^2 with the
  relativistic mass: sigma is positive, forward transforms carry exp(-2 pi i q r), P = exp(-i pi lambda dz q^2).
* Both ``t`` and P are cut at ``cutoff / (2 max(sampling))``, cutoff = 0.6666666, with a raised-cosine taper that
  *ends* at the cutoff and is ``taper / max(sampling)`` wide, taper = 0.01 (that is 2 % of the Nyquist frequency).
  ``abtem.config`` sets both; taper 0 gives a hard cut (beams exactly on the edge are out).
* ``abtem.Potential(projection="infinite")`` puts each atom on the grid by *bilinear* interpolation of a delta
  function and divides the spectrum by ``sin(k)/k``, k = 2-norm of (q_x dx, q_y dy), to compensate. That is exact
  neither on a grid point (spectrum up to 1.9 % too large at the aperture's edge) nor between grid points (spectrum
  multiplied by cos(pi q dx) half a pixel off). ``placement="exact"`` therefore sums abTEM's scattering factors with
  exact phases and hands abTEM the array; ``placement="abtem"`` is what abTEM does by itself.
* Arrays are indexed [x, y]; the functions here return [y, x].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import abtem
import ase
import numpy as np
from abtem.core.constants import kappa  # 1 / (V Angstrom^2); f_e / kappa is a projected potential
from abtem.core.energy import energy2sigma, energy2wavelength
from abtem.integrals import ScatteringFactorProjectionIntegrals
from abtem.parametrizations import KirklandParametrization, LobatoParametrization
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from scipy import constants

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]
Scattering = Literal["lobato", "kirkland"]
Placement = Literal["exact", "abtem"]

ANGSTROM_PER_NM = 10.0
# abTEM keeps q < cutoff. With 90 rows the beams (0, +-30) lie exactly on two thirds; Dr. Probe (and the multislice
# below) keep them, hence the tolerance. Whether they are in or out is worth 1.5e-4 rms of the exit wave.
EDGE_TOLERANCE = 1e-9
HARD_APERTURE = {"antialias.cutoff": 2.0 / 3.0 * (1.0 + EDGE_TOLERANCE), "antialias.taper": 0.0}
DEFAULT_APERTURE = {"antialias.cutoff": 0.6666666, "antialias.taper": 0.01}
# Double precision and NumPy's transforms: reproducible, no FFTW planning.
DETERMINISTIC = {"precision": "float64", "fft": "numpy", "diagnostics.progress_bar": False}


class Atom(NamedTuple):
    """One atom of the cell: fractional position across the beam, and the slice that takes it whole."""

    number: int
    x: float
    y: float
    slice_index: int
    b_factor_nm2: float = 0.0


class Cell(NamedTuple):
    """An orthogonal cell cut into ``n_slices`` equal slices along the beam (z)."""

    size_nm: tuple[float, float, float]
    n_slices: int
    atoms: tuple[Atom, ...]

    @property
    def slice_thickness_nm(self) -> float:
        return self.size_nm[2] / self.n_slices


def read_cel(path: Path, n_slices: int) -> Cell:
    """Read a Dr. Probe CEL file: a comment, ``0 a b c angles`` (nm), then ``symbol x y z occupancy B ...``, then ``*``.

    Charges of the symbols are dropped. Only full occupancies are accepted.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    a, b, c = (float(word) for word in lines[1].split()[1:4])
    atoms = []
    for line in lines[2:]:
        if line.strip().startswith("*"):
            break
        symbol, *numbers = line.split()
        x, y, z, occupancy, b_factor = (float(word) for word in numbers[:5])
        if occupancy != 1.0:
            raise ValueError(f"occupancy {occupancy} in {path.name}: only 1 is supported")
        number = atomic_numbers[symbol.rstrip("+-0123456789")]
        atoms.append(Atom(number, x % 1.0, y % 1.0, int(np.floor(n_slices * (z % 1.0))), b_factor))
    return Cell((a, b, c), n_slices, tuple(atoms))


def without_vibration(cell: Cell) -> Cell:
    """The same cell with static atoms."""
    return cell._replace(atoms=tuple(atom._replace(b_factor_nm2=0.0) for atom in cell.atoms))


def _phase_ramp(position: float, n: int) -> ComplexArray:
    """Fourier coefficients exp(-2 pi i h x) of a delta function at the fraction x of a period of n points."""
    return np.exp(-2j * np.pi * position * np.fft.fftfreq(n, 1.0 / n))


# --- abTEM --------------------------------------------------------------------------------------------------------


def abtem_parametrization(
    scattering: Scattering, b_factors_nm2: dict[int, float]
) -> LobatoParametrization | KirklandParametrization:
    """abTEM's parametrization with its Debye-Waller damping: ``sigmas`` is the rms displacement per axis in Angstrom,

    B = 8 pi^2 sigma^2, so that the factor exp(-2 pi^2 sigma^2 q^2) equals exp(-B q^2 / 4).
    """
    sigmas = {
        chemical_symbols[number]: float(ANGSTROM_PER_NM * np.sqrt(b / (8.0 * np.pi**2)))
        for number, b in b_factors_nm2.items()
        if b > 0.0
    }
    kinds = {"lobato": LobatoParametrization, "kirkland": KirklandParametrization}
    return kinds[scattering](sigmas=sigmas)


def species_b_factors(cell: Cell) -> dict[int, float]:
    """B factor (nm^2) per atomic number; abTEM knows one per element."""
    factors: dict[int, float] = {}
    for atom in cell.atoms:
        if factors.setdefault(atom.number, atom.b_factor_nm2) != atom.b_factor_nm2:
            raise ValueError(f"two B factors for {chemical_symbols[atom.number]}")
    return factors


def abtem_projected_potential(
    cell: Cell, gpts: tuple[int, int], scattering: Scattering, placement: Placement
) -> FloatArray:
    """Projected potential of each slice in volt Angstrom, shape (slices, nx, ny).

    Call it inside ``abtem.config.set(DETERMINISTIC)``.
    """
    parametrization = abtem_parametrization(scattering, species_b_factors(cell))
    size = tuple(ANGSTROM_PER_NM * length for length in cell.size_nm)
    if placement == "abtem":
        # Heights in the middle of the slices, so that no rounding moves an atom to the next one.
        positions = [
            (atom.x * size[0], atom.y * size[1], (atom.slice_index + 0.5) / cell.n_slices * size[2])
            for atom in cell.atoms
        ]
        atoms = ase.Atoms(
            [atom.number for atom in cell.atoms], positions=positions, cell=size, pbc=True
        )
        potential = abtem.Potential(
            atoms,
            gpts=gpts,
            slice_thickness=size[2] / cell.n_slices,
            parametrization=parametrization,
            projection="infinite",
        )
        return np.asarray(potential.build(lazy=False).array)

    sampling = (size[0] / gpts[0], size[1] / gpts[1])
    integrals = ScatteringFactorProjectionIntegrals(parametrization)
    spectrum = np.zeros((cell.n_slices, *gpts), dtype=np.complex128)
    alike: dict[tuple[int, int], list[Atom]] = {}
    for atom in cell.atoms:
        alike.setdefault((atom.slice_index, atom.number), []).append(atom)
    for (index, number), atoms in alike.items():
        factor = integrals.get_scattering_factor(chemical_symbols[number], gpts, sampling, "cpu")
        along_x = np.stack([_phase_ramp(atom.x, gpts[0]) for atom in atoms], axis=1)
        along_y = np.stack([_phase_ramp(atom.y, gpts[1]) for atom in atoms], axis=0)
        spectrum[index] += factor * (along_x @ along_y)
    return np.fft.ifft2(spectrum).real / (sampling[0] * sampling[1])


def abtem_exit_waves(
    cell: Cell,
    gpts: tuple[int, int],
    thicknesses: Sequence[int],
    *,
    scattering: Scattering = "lobato",
    placement: Placement = "exact",
    aperture: dict[str, float] = HARD_APERTURE,
    energy_ev: float = 300e3,
) -> ComplexArray:
    """Waves behind the given numbers of slices (ascending, propagated through each), shape (thicknesses, ny, nx)."""
    with abtem.config.set({**DETERMINISTIC, **aperture}):
        projected = abtem_projected_potential(cell, gpts, scattering, placement)
        potential = abtem.potentials.iam.PotentialArray(
            projected[np.arange(max(thicknesses)) % cell.n_slices],
            slice_thickness=ANGSTROM_PER_NM * cell.slice_thickness_nm,
            extent=(ANGSTROM_PER_NM * cell.size_nm[0], ANGSTROM_PER_NM * cell.size_nm[1]),
            exit_planes=tuple(n - 1 for n in thicknesses),
        )
        waves = abtem.PlaneWave(energy=energy_ev).multislice(potential, lazy=False)
        array = np.asarray(waves.array).reshape(len(thicknesses), *gpts)
    return np.swapaxes(array, -1, -2)


# --- independent multislice ---------------------------------------------------------------------------------------


def electron_scattering_factor(
    scattering: Scattering, number: int, q_squared: FloatArray
) -> FloatArray:
    """f_e(q) in Angstrom, q in 1/Angstrom, from the published coefficients as abTEM tabulates them.

    Lobato and Van Dyck (2014): sum_i a_i (2 + b_i q^2) / (1 + b_i q^2)^2.
    Kirkland (2010): sum_i a_i / (q^2 + b_i) + c_i exp(-d_i q^2).
    """
    table = Path(abtem.parametrizations.__file__).parent / "data" / f"{scattering}.json"
    rows = np.array(json.loads(table.read_text(encoding="utf-8"))[chemical_symbols[number]])
    q2 = q_squared[..., None]
    if scattering == "lobato":
        a, b = rows
        return np.sum(a * (2.0 + b * q2) / (1.0 + b * q2) ** 2, axis=-1)
    a, b, c, d = rows
    return np.sum(a / (q2 + b) + c * np.exp(-d * q2), axis=-1)


def numpy_exit_waves(
    cell: Cell,
    gpts: tuple[int, int],
    thicknesses: Sequence[int],
    *,
    scattering: Scattering = "lobato",
    energy_ev: float = 300e3,
) -> ComplexArray:
    """The same waves without abTEM's code: hard aperture q <= 2/3 q_max, constants from CODATA (``scipy.constants``).

    t = exp(i sigma V_p), V_p = h^2 / (2 pi m_e e) f_e / area, sigma = 2 pi gamma m_e e lambda / h^2, that is
    sigma V_p = gamma lambda f_e / area: the product needs neither m_e nor e.
    """
    rest_ev = constants.m_e * constants.c**2 / constants.e
    wavelength_nm = (
        1e9
        * constants.h
        * constants.c
        / constants.e
        / np.sqrt(energy_ev * (2.0 * rest_ev + energy_ev))
    )
    gamma = 1.0 + energy_ev / rest_ev
    (nx, ny), (width, height, _) = gpts, cell.size_nm
    qx, qy = np.fft.fftfreq(nx, width / nx)[None, :], np.fft.fftfreq(ny, height / ny)[:, None]
    q_squared = qx**2 + qy**2
    q_max = min(nx / (2.0 * width), ny / (2.0 * height))
    inside = np.sqrt(q_squared) <= 2.0 / 3.0 * (1.0 + EDGE_TOLERANCE) * q_max

    phase = np.zeros((cell.n_slices, ny, nx), dtype=np.complex128)
    for atom in cell.atoms:
        f_nm = 0.1 * electron_scattering_factor(
            scattering, atom.number, q_squared / ANGSTROM_PER_NM**2
        )
        damped = f_nm * np.exp(-atom.b_factor_nm2 * q_squared / 4.0)
        ramp = _phase_ramp(atom.y, ny)[:, None] * _phase_ramp(atom.x, nx)[None, :]
        phase[atom.slice_index] += gamma * wavelength_nm / (width * height) * damped * ramp
    gratings = np.exp(1j * np.fft.ifft2(phase).real * (nx * ny))
    gratings = np.fft.ifft2(np.where(inside, np.fft.fft2(gratings), 0.0))
    propagator = np.where(
        inside, np.exp(-1j * np.pi * wavelength_nm * cell.slice_thickness_nm * q_squared), 0.0
    )

    wave = np.ones((ny, nx), dtype=np.complex128)
    waves = {}
    for index in range(max(thicknesses)):
        wave = np.fft.ifft2(propagator * np.fft.fft2(wave * gratings[index % cell.n_slices]))
        waves[index + 1] = wave
    return np.stack([waves[n] for n in thicknesses])


# --- comparison ---------------------------------------------------------------------------------------------------


def rms_difference(first: ComplexArray, second: ComplexArray) -> list[float]:
    """Root mean square of |first - second| over the last two axes (vacuum amplitude is 1)."""
    return np.sqrt(np.mean(np.abs(first - second) ** 2, axis=(-2, -1))).tolist()


def compare(
    cell: Cell, gpts: tuple[int, int], thicknesses: Sequence[int]
) -> tuple[dict[str, ComplexArray], dict[str, Any]]:
    """All exit waves, and how far apart they are.

    Names of the waves: ``<scattering>_hard`` is abTEM with exact placement and the hard two-thirds aperture (the one
    to test against), ``_tapered`` the same with abTEM's default aperture, ``_native`` abTEM with all its defaults,
    ``_numpy`` the independent multislice.
    """
    waves: dict[str, ComplexArray] = {}
    report: dict[str, Any] = {
        "abtem": abtem.__version__,
        "wavelength_nm": energy2wavelength(300e3) / ANGSTROM_PER_NM,
        "sigma_per_volt_nm": ANGSTROM_PER_NM * energy2sigma(300e3),
        "volt_angstrom2_per_scattering_factor": 1.0 / kappa,
        "thicknesses_slices": list(thicknesses),
        "rms_of_exit_waves": {},
    }
    for scattering in ("lobato", "kirkland"):
        hard = abtem_exit_waves(cell, gpts, thicknesses, scattering=scattering)
        tapered = abtem_exit_waves(
            cell, gpts, thicknesses, scattering=scattering, aperture=DEFAULT_APERTURE
        )
        native = abtem_exit_waves(
            cell,
            gpts,
            thicknesses,
            scattering=scattering,
            aperture=DEFAULT_APERTURE,
            placement="abtem",
        )
        own = numpy_exit_waves(cell, gpts, thicknesses, scattering=scattering)
        waves |= {
            f"{scattering}_hard": hard,
            f"{scattering}_tapered": tapered,
            f"{scattering}_native": native,
            f"{scattering}_numpy": own,
        }
        report["rms_of_exit_waves"][scattering] = {
            "abtem_hard_aperture_minus_numpy": rms_difference(hard, own),
            "effect_of_taper": rms_difference(tapered, hard),
            "effect_of_native_placement": rms_difference(native, tapered),
            "abtem_defaults_minus_numpy": rms_difference(native, own),
        }
    report["rms_of_exit_waves"]["lobato_minus_kirkland"] = rms_difference(
        waves["lobato_hard"], waves["kirkland_hard"]
    )
    return waves, report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cel", type=Path, required=True, help="Dr. Probe CEL file of the cell")
    parser.add_argument(
        "--out", type=Path, required=True, help=".npz for the exit waves (thickness, y, x)"
    )
    parser.add_argument("--report", type=Path, required=True, help=".json for the differences")
    parser.add_argument("--slices", type=int, default=4, help="slices per cell")
    parser.add_argument("--grid", type=int, nargs=2, default=(90, 128), metavar=("ROWS", "COLS"))
    parser.add_argument(
        "--thicknesses", type=int, nargs="+", default=(1, 4, 8, 16, 20, 24), help="in slices"
    )
    options = parser.parse_args(arguments)

    cell = without_vibration(read_cel(options.cel, options.slices))
    rows, cols = options.grid
    thicknesses = sorted(set(options.thicknesses))
    waves, report = compare(cell, (cols, rows), thicknesses)
    np.savez_compressed(
        options.out,
        thicknesses=np.array(thicknesses),
        cell_nm=np.array(cell.size_nm),
        **{name: wave.astype(np.complex64) for name, wave in waves.items()},
    )
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
