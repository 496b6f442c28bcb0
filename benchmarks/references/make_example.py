"""Make the embedded example: an HRTEM image of SrTiO3 [110] with known truth, simulated with abTEM.

    python -m benchmarks.references.make_example --out qhrtem_jax/example

Scattering factors (Lobato, with Debye-Waller damping), multislice, tilt
and aberration phases come from abTEM, an outside program, so that recovering the truth from this image tests more
than self-consistency. Files written to the output folder:

    example.npy          float32 [rows, columns]: 64 rows of vacuum, then 44 rows of crystal; noise
    example.mtf          camera MTF (count, then values from frequency 0 to Nyquist)
    SrTiO3_110.cel       the cell, Dr. Probe CEL
    truth.json           every parameter, in Dr. Probe's normalisation and signs (below)

Conventions of the truth and how abTEM is made to obey them (w = lambda q, lengths in nm here, Angstrom in abTEM):

* Aberrations: chi = (2 pi/lambda) sum (1/m) |w|^(m-n) Re[conj(a) (wx + i wy)^n], phase plate exp(-i chi), C1 > 0 acts
  like free propagation behind the object. abTEM multiplies by exp(-i (2 pi/lambda) sum (1/m) |w|^m C cos(n (phi -
  phi0))), without Krivanek's minus for the defocus (its "defocus" is -C10): C_{m-1,n} = |a|, phi0 = arg(a)/n, with
  the same sign and, for coma and star too, the same 1/m. The image shift A0 (m = n = 1) is not in abTEM; it is applied
  as the phase ramp exp(-2 pi i q A0).
* Tilt: propagator phase -(pi dz/lambda)(w^2 - 2 w.t). abTEM has -2 pi dz q tan(tilt), the opposite sign: tilt = -t.
* Absorption: t = exp(i sigma V (1 + i absorption)). abTEM's exponential takes complex arrays in single precision
  only, so the transmission functions are built here in double precision and band-limited by abTEM's own aperture.
* Coherence: incoherent sums over the defocus, weights exp(-(Z/focus_spread)^2), and over tilts of the illumination at
  the imaging stage, chi(w + b) with weights exp(-(b/semi_convergence)^2): 1/e half-widths.
* Camera: the intensity of the periodic cell times MTF, sinc of the pixel and image spread exp(-2 pi^2 s^2 q^2), all
  at true spatial frequencies, then evaluated at pixel centres (column, row) * sampling; pixel (0, 0) is the origin.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import abtem
import numpy as np
from abtem.antialias import AntialiasAperture
from abtem.core.energy import energy2sigma, energy2wavelength
from abtem.multislice import FresnelPropagator, conventional_multislice_step
from abtem.potentials.iam import TransmissionFunction
from abtem.transfer import Aberrations
from numpy.typing import NDArray

from benchmarks.references.abtem_exit_wave import (
    ANGSTROM_PER_NM,
    DETERMINISTIC,
    HARD_APERTURE,
    Cell,
    abtem_projected_potential,
    read_cel,
)

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]

ENERGY_EV = 300e3
GPTS = (128, 90)  # wave grid, x and y
LATTICE_NM = 0.3905
B_FACTORS_NM2 = {"Sr": 0.0062, "Ti": 0.0044, "O": 0.0072}
# Fractional x, y, z; x = [-110], y = [001], beam along z = [110], heights in the middle of the four slices.
SITES = (
    ("Sr", 0.125, 0.25, 0.875),
    ("Sr", 0.625, 0.25, 0.375),
    ("Ti", 0.625, 0.75, 0.875),
    ("Ti", 0.125, 0.75, 0.375),
    ("O", 0.625, 0.25, 0.875),
    ("O", 0.125, 0.25, 0.375),
    ("O", 0.375, 0.75, 0.125),
    ("O", 0.875, 0.75, 0.625),
    ("O", 0.875, 0.75, 0.125),
    ("O", 0.375, 0.75, 0.625),
)
SLICES_PER_CELL = 4
MTF_POINTS = 257

# Aberration name -> (order m, symmetry n); abTEM's symbol is C{m-1}{n}.
ABERRATION_ORDERS = {
    "A0": (1, 1),
    "C1": (2, 0),
    "A1": (2, 2),
    "B2": (3, 1),
    "A2": (3, 3),
    "C3": (4, 0),
    "S3": (4, 2),
    "A3": (4, 4),
    "C5": (6, 0),
}

# Noise: white noise filtered by this kernel along rows and along columns. Unit variance after division by the
# kernel's norm; correlation along an axis 0.598 (lag 1), 0.252 (lag 2), 0.054, 0.008.
NOISE_KERNEL = (0.1, 0.34, 1.0, 0.34, 0.1)
NOISE_VARIANCE = 1.8e-4
VACUUM_SHAPE = (64, 64)


@dataclass(frozen=True)
class Truth:
    """Parameters of the example: nm, mrad, absorption as a fraction; thickness in slices."""

    thickness: int = 18
    absorption: float = 0.02
    tilt_x: float = 1.5
    tilt_y: float = -0.8
    focus_spread: float = 3.5
    semi_convergence: float = 0.3
    image_spread: float = 0.016
    aberrations: dict[str, complex] = field(
        default_factory=lambda: {
            "A0": 0.012 - 0.008j,
            "C1": 5.0 + 0j,
            "A1": 1.2 - 0.8j,
            "B2": 20.0 - 15.0j,
            "A2": -25.0 + 30.0j,
            "C3": -6000.0 + 0j,
            "S3": 500.0 - 700.0j,
            "A3": 900.0 + 400.0j,
            "C5": 3e6 + 0j,
        }
    )

    def named_parameters(self) -> dict[str, float]:
        """Flat names: A0_x, A0_y, C1, ... beside the others."""
        flat = {key: value for key, value in asdict(self).items() if key != "aberrations"}
        for name, value in self.aberrations.items():
            if ABERRATION_ORDERS[name][1] == 0:
                flat[name] = value.real
            else:
                flat |= {f"{name}_x": value.real, f"{name}_y": value.imag}
        return flat


@dataclass(frozen=True)
class Frame:
    """The camera frame; not commensurate with the cell."""

    rows: int = 44
    cols: int = 64
    sampling_nm: float = 0.0089


@dataclass(frozen=True)
class Quadrature:
    """Nodes of the incoherent sums, in units of the 1/e half-widths."""

    foci: int = 41
    focus_range: float = 3.5
    tilt_step: float = 0.4
    tilt_range: float = 2.8


def cel_text() -> str:
    """The cell as a Dr. Probe CEL file."""
    size = (np.sqrt(2.0) * LATTICE_NM, LATTICE_NM, np.sqrt(2.0) * LATTICE_NM)
    lines = ["# SrTiO3, x=[-110], y=[001], beam z=[110]; written by make_example.py"]
    lines.append(
        "  0 " + " ".join(f"{length:9.6f}" for length in size) + " 90.00000 90.00000 90.00000"
    )
    for symbol, x, y, z in SITES:
        b_factor = B_FACTORS_NM2[symbol]
        lines.append(
            f"{symbol:>5}  {x:.6f} {y:.6f} {z:.6f} 1.000000 {b_factor:.6f} 0.000000 0.000000 0.000000"
        )
    return "\n".join([*lines, "*", ""])


def exit_wave(cell: Cell, truth: Truth, gpts: tuple[int, int] = GPTS) -> ComplexArray:
    """abTEM's wave behind the last slice (propagated through it), shape (nx, ny), vacuum amplitude 1."""
    potential = abtem_projected_potential(cell, gpts, "lobato", "exact")
    transmission = TransmissionFunction(
        np.exp(1j * energy2sigma(ENERGY_EV) * potential * (1.0 + 1j * truth.absorption)),
        slice_thickness=ANGSTROM_PER_NM * cell.slice_thickness_nm,
        extent=(ANGSTROM_PER_NM * cell.size_nm[0], ANGSTROM_PER_NM * cell.size_nm[1]),
        energy=ENERGY_EV,
    )
    # abTEM band-limits what it computes from potentials, not transmission functions handed to it; nor can
    # ``PlaneWave.multislice`` take them (1.0.11), hence the loop over abTEM's step (transmit, then propagate).
    aperture = AntialiasAperture()
    transmission = aperture.bandlimit(transmission)
    propagator = FresnelPropagator()
    waves = abtem.PlaneWave(
        gpts=gpts, extent=transmission.extent, energy=ENERGY_EV, tilt=(-truth.tilt_x, -truth.tilt_y)
    ).build(lazy=False)
    for index in range(truth.thickness):
        k = index % cell.n_slices
        waves = conventional_multislice_step(
            waves, transmission.get_chunk(k, k + 1), propagator, aperture
        )
    return np.asarray(waves.array)


def abtem_aberrations(coefficients: dict[str, complex]) -> Aberrations:
    """abTEM's aberration function from Dr. Probe's coefficients (all but A0)."""
    polar: dict[str, float] = {}
    for name, value in coefficients.items():
        order, symmetry = ABERRATION_ORDERS[name]
        if order == 1:
            continue
        if symmetry == 0:
            polar[f"C{order - 1}0"] = ANGSTROM_PER_NM * value.real
        else:
            polar[f"C{order - 1}{symmetry}"] = ANGSTROM_PER_NM * abs(value)
            polar[f"phi{order - 1}{symmetry}"] = float(np.angle(value)) / symmetry
    return Aberrations(aberration_coefficients=polar, energy=ENERGY_EV)


def illumination_tilts(
    semi_convergence_rad: float, quadrature: Quadrature
) -> Iterator[tuple[complex, float]]:
    """Tilts b_x + i b_y (rad) on a square grid inside a disc, with weights exp(-|b|^2 / semi_convergence^2)."""
    half = int(np.floor(quadrature.tilt_range / quadrature.tilt_step))
    steps = quadrature.tilt_step * np.arange(-half, half + 1)
    for x in steps:
        for y in steps:
            if x**2 + y**2 <= quadrature.tilt_range**2:
                yield complex(x, y) * semi_convergence_rad, float(np.exp(-(x**2) - y**2))


def image_intensity(
    wave: ComplexArray, cell: Cell, truth: Truth, quadrature: Quadrature
) -> FloatArray:
    """Intensity on the wave grid before the camera, shape (nx, ny), vacuum = 1."""
    wavelength_nm = energy2wavelength(ENERGY_EV) / ANGSTROM_PER_NM
    (nx, ny), (width, height, _) = wave.shape, cell.size_nm
    qx, qy = np.fft.fftfreq(nx, width / nx)[:, None], np.fft.fftfreq(ny, height / ny)[None, :]
    shift = truth.aberrations["A0"]
    spectrum = np.fft.fft2(wave) * np.exp(-2j * np.pi * (qx * shift.real + qy * shift.imag))
    angle = wavelength_nm * (qx + 1j * qy)

    aberrations = abtem_aberrations(truth.aberrations)
    foci = truth.focus_spread * np.linspace(
        -quadrature.focus_range, quadrature.focus_range, quadrature.foci
    )
    focus_weights = np.exp(-((foci / truth.focus_spread) ** 2))
    intensity = np.zeros((nx, ny))
    total = 0.0
    for tilt, tilt_weight in illumination_tilts(1e-3 * truth.semi_convergence, quadrature):
        tilted = angle + tilt
        # The defocus of each focal plane rides on abTEM's C10, so that it is tilted along with the rest.
        for focus, focus_weight in zip(foci, focus_weights, strict=True):
            aberrations.C10 = ANGSTROM_PER_NM * (truth.aberrations["C1"].real + focus)
            phase_plate = aberrations._evaluate_from_angular_grid(np.abs(tilted), np.angle(tilted))
            weight = tilt_weight * focus_weight
            intensity += weight * np.abs(np.fft.ifft2(spectrum * phase_plate)) ** 2
            total += weight
    return intensity / total


def camera_mtf(points: int = MTF_POINTS) -> FloatArray:
    """A plausible MTF from frequency 0 to Nyquist: 0.55 exp(-(f/0.55)^2) + 0.30 exp(-f/0.2) + 0.15, f in Nyquist."""
    f = np.linspace(0.0, 1.0, points)
    return 0.55 * np.exp(-((f / 0.55) ** 2)) + 0.30 * np.exp(-f / 0.2) + 0.15


def record(
    intensity: FloatArray, cell: Cell, truth: Truth, frame: Frame, mtf: FloatArray
) -> FloatArray:
    """Camera image [rows, columns]: filter the periodic intensity, evaluate its Fourier series at the pixel centres.

    Beyond Nyquist the MTF keeps its last value.
    """
    (nx, ny), (width, height, _) = intensity.shape, cell.size_nm
    qx, qy = np.fft.fftfreq(nx, width / nx), np.fft.fftfreq(ny, height / ny)
    q = np.hypot(qx[:, None], qy[None, :])
    nyquist = 1.0 / (2.0 * frame.sampling_nm)
    transfer = np.interp(q / nyquist, np.linspace(0.0, 1.0, len(mtf)), mtf)
    transfer *= np.sinc(qx * frame.sampling_nm)[:, None] * np.sinc(qy * frame.sampling_nm)[None, :]
    transfer *= np.exp(-2.0 * (np.pi * truth.image_spread * q) ** 2)
    coefficients = np.fft.fft2(intensity) * transfer / (nx * ny)
    x, y = np.arange(frame.cols) * frame.sampling_nm, np.arange(frame.rows) * frame.sampling_nm
    along_x = np.exp(2j * np.pi * np.outer(x, qx))
    along_y = np.exp(2j * np.pi * np.outer(y, qy))
    return (along_y @ coefficients.T @ along_x.T).real


def correlated_noise(
    shape: tuple[int, int], variance: float, generator: np.random.Generator
) -> FloatArray:
    """White Gaussian noise filtered by NOISE_KERNEL along both axes, without wrap-around."""
    kernel = np.array(NOISE_KERNEL)
    kernel /= np.linalg.norm(kernel)
    margin = len(kernel) - 1
    noise = generator.standard_normal((shape[0] + margin, shape[1] + margin))
    for axis in (0, 1):
        noise = np.apply_along_axis(np.convolve, axis, noise, kernel, mode="valid")
    return np.sqrt(variance) * noise


def noise_correlation() -> list[float]:
    """Autocorrelation of the noise along an axis at lags 1, 2, ..."""
    kernel = np.array(NOISE_KERNEL)
    full = np.correlate(kernel, kernel, mode="full")[len(kernel) :]
    return (full / np.dot(kernel, kernel)).tolist()


def make_example(out: Path, seed: int, truth: Truth, frame: Frame, quadrature: Quadrature) -> None:
    """Simulate and write all files to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "SrTiO3_110.cel").write_text(cel_text(), encoding="utf-8")
    cell = read_cel(out / "SrTiO3_110.cel", SLICES_PER_CELL)
    mtf_lines = [str(MTF_POINTS), *(f"{value:.10f}" for value in camera_mtf())]
    (out / "example.mtf").write_text("\n".join(mtf_lines) + "\n", encoding="utf-8")

    with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
        wave = exit_wave(cell, truth)
        intensity = image_intensity(wave, cell, truth, quadrature)
    clean = record(intensity, cell, truth, frame, camera_mtf())

    for_image, for_vacuum = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)
    )
    noisy = clean + correlated_noise(clean.shape, NOISE_VARIANCE, for_image)
    vacuum = 1.0 + correlated_noise(VACUUM_SHAPE, NOISE_VARIANCE, for_vacuum)
    np.save(out / "example.npy", np.concatenate([vacuum, noisy]).astype(np.float32))

    parameters = truth.named_parameters()
    description = {
        "made_by": f"make_example.py, abTEM {abtem.__version__}, seed {seed}",
        "aberration_convention": "drprobe",
        "units": "nm; tilt and semi_convergence in mrad; absorption a fraction; thickness in slices",
        "parameters": parameters,
        "high_tension_kv": ENERGY_EV / 1e3,
        "scattering": "lobato",
        "structure": "SrTiO3_110.cel",
        "slices_per_cell": cell.n_slices,
        "slice_thickness_nm": cell.slice_thickness_nm,
        "wave_grid_rows_cols": [GPTS[1], GPTS[0]],
        "band_limit": "q <= 2/3 of the smaller Nyquist frequency, hard, on transmission functions and propagator",
        "coherence": {
            "model": "explicit incoherent sums; spreads are 1/e half-widths",
            "foci": quadrature.foci,
            "focus_range_half_widths": quadrature.focus_range,
            "tilt_step_half_widths": quadrature.tilt_step,
            "tilt_range_half_widths": quadrature.tilt_range,
        },
        "camera": {
            "rows_cols": [frame.rows, frame.cols],
            "sampling_nm": frame.sampling_nm,
            "mtf": "example.mtf",
            "mtf_scale": 1.0,
            "pixel_integration": True,
            "frequencies": "of the periodic cell; pixel (0, 0) is centred on the cell's origin",
        },
        "noise": {
            "variance": NOISE_VARIANCE,
            "kernel_rows_and_cols": list(NOISE_KERNEL),
            "correlation_by_lag": noise_correlation(),
            "seed": seed,
        },
    }
    (out / "truth.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--seed", type=int, default=20240601, help="seed of the noise")
    options = parser.parse_args()
    make_example(options.out, options.seed, Truth(), Frame(), Quadrature())


if __name__ == "__main__":
    main()
