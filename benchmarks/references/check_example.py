"""Compare the noise-free example with an image computed by NumPy alone, straight from the written conventions.

    python check_example.py --example example/ --report check.json

Reads what ``make_example.py`` wrote (CEL, MTF, truth) and shares no code with it: scattering factors come from abTEM's
Lobato table, everything else from scratch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import abtem
import numpy as np
from numpy.typing import NDArray

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


def simulate(
    folder: Path, truth: dict[str, Any], tilt_sign: float = 1.0, frame_filter: bool = False
) -> NDArray[Any]:
    """The clean image. ``tilt_sign=-1`` reverses the tilt; ``frame_filter`` filters on the frame, taken as periodic
    (as Dr. Probe does), in place of the cell."""
    p = truth["parameters"]
    rows, cols = truth["wave_grid_rows_cols"]
    cel = (folder / truth["structure"]).read_text(encoding="utf-8").splitlines()
    width, height, depth = (float(word) for word in cel[1].split()[1:4])
    dz = depth / truth["slices_per_cell"]
    kilovolt = truth["high_tension_kv"]
    wavelength = 1.239842447 / np.sqrt(kilovolt * (1022.0 + kilovolt))
    gamma = 1.0 + kilovolt / 510.99895

    h, k = np.fft.fftfreq(cols, 1.0 / cols)[None, :], np.fft.fftfreq(rows, 1.0 / rows)[:, None]
    qx, qy = h / width, k / height
    q = np.hypot(qx, qy)
    inside = q <= 2.0 / 3.0 * min(cols / (2 * width), rows / (2 * height)) * (1 + 1e-9)

    lobato = json.loads(
        (Path(abtem.parametrizations.__file__).parent / "data" / "lobato.json").read_text()
    )
    phase = np.zeros((truth["slices_per_cell"], rows, cols), dtype=complex)
    for line in cel[2:-1]:
        symbol, *words = line.split()
        x, y, z, occupancy, b_factor = (float(word) for word in words[:5])
        a, b = np.array(lobato[symbol])[:, :, None, None]
        bq2 = b * (0.1 * q) ** 2
        f_nm = 0.1 * np.sum(a * (2 + bq2) / (1 + bq2) ** 2, axis=0)
        phase[int(z * truth["slices_per_cell"])] += (
            occupancy * gamma * wavelength * f_nm * np.exp(-b_factor * q**2 / 4)
            * np.exp(-2j * np.pi * (h * x + k * y)) * rows * cols / (width * height)
        )  # fmt: skip
    gratings = np.exp(1j * (1 + 1j * p["absorption"]) * np.fft.ifft2(phase).real)
    gratings = np.fft.ifft2(np.fft.fft2(gratings) * inside)

    wx, wy = wavelength * qx, wavelength * qy
    tx, ty = 1e-3 * tilt_sign * p["tilt_x"], 1e-3 * tilt_sign * p["tilt_y"]
    cosine = np.cos(np.hypot(tx, ty))
    propagator = inside * np.exp(
        -1j * np.pi * dz / wavelength * cosine * (wx**2 + wy**2 - 2 * (wx * tx + wy * ty))
    )
    wave = np.ones((rows, cols), dtype=complex)
    for index in range(p["thickness"]):
        wave = np.fft.ifft2(propagator * np.fft.fft2(wave * gratings[index % len(gratings)]))
    spectrum = np.fft.fft2(wave)

    def chi(w: NDArray[Any], focus: float) -> NDArray[Any]:
        total = np.zeros(w.shape)
        for name, (m, n) in ABERRATION_ORDERS.items():
            a = p[name] if n == 0 else complex(p[f"{name}_x"], p[f"{name}_y"])
            a = a + focus if name == "C1" else a
            total += np.abs(w) ** (m - n) * np.real(np.conj(a) * w**n) / m
        return 2 * np.pi / wavelength * total

    # A quadrature of its own: Gauss-Hermite over the tilts, trapezoidal over the foci, finer and wider.
    nodes, weights = np.polynomial.hermite.hermgauss(7)
    foci = np.linspace(-3.5, 3.5, 41)
    intensity = np.zeros((rows, cols))
    for bx, weight_x in zip(nodes, weights / weights.sum(), strict=True):
        for by, weight_y in zip(nodes, weights / weights.sum(), strict=True):
            w = wx + 1j * wy + 1e-3 * p["semi_convergence"] * (bx + 1j * by)
            for focus, weight in zip(
                foci, np.exp(-(foci**2)) / np.exp(-(foci**2)).sum(), strict=True
            ):
                image = np.fft.ifft2(spectrum * np.exp(-1j * chi(w, p["focus_spread"] * focus)))
                intensity += weight_x * weight_y * weight * np.abs(image) ** 2

    pixel = truth["camera"]["sampling_nm"]
    frame_rows, frame_cols = truth["camera"]["rows_cols"]
    mtf = np.loadtxt(folder / truth["camera"]["mtf"], skiprows=2)

    def camera(fx: NDArray[Any], fy: NDArray[Any]) -> NDArray[Any]:
        f = np.hypot(fx, fy)
        table = np.interp(2 * pixel * f, np.linspace(0, 1, len(mtf)), mtf)
        return (
            table
            * np.sinc(pixel * fx)
            * np.sinc(pixel * fy)
            * np.exp(-2 * (np.pi * p["image_spread"] * f) ** 2)
        )

    coefficients = np.fft.fft2(intensity) / (rows * cols)
    if not frame_filter:
        coefficients = coefficients * camera(qx, qy)
    to_x = np.exp(2j * np.pi * pixel * np.outer(np.arange(frame_cols), qx[0]))
    to_y = np.exp(2j * np.pi * pixel * np.outer(np.arange(frame_rows), qy[:, 0]))
    image = (to_y @ coefficients @ to_x.T).real
    if frame_filter:
        fx, fy = (
            np.fft.fftfreq(frame_cols, pixel)[None, :],
            np.fft.fftfreq(frame_rows, pixel)[:, None],
        )
        image = np.fft.ifft2(np.fft.fft2(image) * camera(fx, fy)).real
    return image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--example", type=Path, required=True, help="folder written by make_example.py"
    )
    parser.add_argument("--report", type=Path, required=True, help=".json for the differences")
    options = parser.parse_args()

    truth = json.loads((options.example / "truth.json").read_text(encoding="utf-8"))
    clean = np.load(options.example / "example_clean.npy")
    noisy = np.load(options.example / "example.npy")
    vacuum = np.load(options.example / "vacuum.npy")

    def rms(difference: NDArray[Any]) -> float:
        return float(np.sqrt(np.mean(difference**2)))

    centred = vacuum - vacuum.mean()
    image = simulate(options.example, truth)
    report = {
        "rms_clean_minus_numpy": rms(clean - image),
        "rms_with_opposite_tilt": rms(clean - simulate(options.example, truth, tilt_sign=-1.0)),
        "rms_with_filter_on_the_frame": rms(
            clean - simulate(options.example, truth, frame_filter=True)
        ),
        "clean_mean_std_min_max": [
            float(value) for value in (clean.mean(), clean.std(), clean.min(), clean.max())
        ],
        "noise_variance_image": float(np.var(noisy - clean)),
        "noise_variance_vacuum": float(vacuum.var()),
        "noise_correlation_vacuum": [
            float(np.mean(centred[:, lag:] * centred[:, :-lag]) / vacuum.var()) for lag in (1, 2, 3)
        ],
    }
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
