"""Make experiments with known truth: mean images of BaTiO3 [110], simulated with abTEM.

    python -m benchmarks.references.make_experiments --out runs/experiments.npz [--count 60] [--seed 1] [--wide]

As `make_example`, whose conventions hold here: abTEM's multislice and phase plates, explicit sums over foci and
illumination, camera and correlated noise. Thickness and imaging parameters are drawn from ranges nearly as wide as the
default bounds. The file has `images` (n, rows, cols), noisy; `truth`, a JSON each, in Dr. Probe's normalisation; `cel`,
the text of the cell; `mtf`; `noise_variance` and `noise_correlation`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import abtem
import numpy as np

from benchmarks.references import make_example as sto
from benchmarks.references.abtem_exit_wave import DETERMINISTIC, HARD_APERTURE, Cell, read_cel

LATTICE_NM = 0.4009
B_FACTORS_NM2 = {"Ba": 0.0045, "Ti": 0.0055, "O": 0.0068}
FRAME = sto.Frame(45, 64, 0.00887)
QUADRATURE = sto.Quadrature(foci=25, focus_range=2.8, tilt_step=0.7, tilt_range=2.1)
SLICES = (6, 48)
RANGES = {"A1": 2.5, "B2": 90.0, "A2": 70.0, "S3": 1500.0, "A3": 2000.0}
WIDE = {"A1": 4.0, "B2": 120.0, "A2": 120.0, "S3": 6000.0, "A3": 7000.0}
"""Half-widths of the components of the aberrations, nm: of a corrected microscope, and most of the default bounds."""


def cel_text() -> str:
    """The cell: that of the embedded example, with Ba on its Sr."""
    size = (np.sqrt(2.0) * LATTICE_NM, LATTICE_NM, np.sqrt(2.0) * LATTICE_NM)
    lines = ["# cubic BaTiO3, x=[-110], y=[001], beam z=[110]; written by make_experiments.py"]
    lines.append("  0 " + " ".join(f"{length:9.6f}" for length in size) + " 90.0 90.0 90.0")
    for symbol, x, y, z in sto.SITES:
        name = "Ba" if symbol == "Sr" else symbol
        b_factor = B_FACTORS_NM2[name]
        lines.append(f"{name:>5}  {x:.6f} {y:.6f} {z:.6f} 1.000000 {b_factor:.6f} 0.0 0.0 0.0")
    return "\n".join([*lines, "*", ""])


def cell_of(text: str) -> Cell:
    """The cell that a .cel describes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cell.cel"
        path.write_text(text, encoding="utf-8")
        return read_cel(path, sto.SLICES_PER_CELL)


def draw(generator: np.random.Generator, wide: bool) -> sto.Truth:
    """Parameters of one experiment."""

    def both(half: float) -> complex:
        return complex(*generator.uniform(-half, half, 2))

    aberrations = {name: both(half) for name, half in (WIDE if wide else RANGES).items()}
    aberrations["A0"] = both(0.03)
    aberrations["C1"] = complex(generator.uniform(*((1.0, 9.5) if wide else (2.5, 9.0))))
    aberrations["C3"] = complex(
        generator.uniform(*((-13000.0, -1000.0) if wide else (-8000.0, -3000.0)))
    )
    aberrations["C5"] = complex(generator.uniform(1e6, 6e6))
    return sto.Truth(
        thickness=int(generator.integers(SLICES[0], SLICES[1] + 1)),
        absorption=generator.uniform(0.005, 0.04),
        tilt_x=generator.uniform(-7.0, 7.0),
        tilt_y=generator.uniform(-7.0, 7.0),
        focus_spread=generator.uniform(3.0, 4.5),
        semi_convergence=generator.uniform(0.2, 0.5),
        image_spread=generator.uniform(0.012, 0.022),
        aberrations=aberrations,
    )


def experiment(cell: Cell, truth: sto.Truth, generator: np.random.Generator) -> np.ndarray:
    """The noisy image."""
    wave = sto.exit_wave(cell, truth)
    intensity = sto.image_intensity(wave, cell, truth, QUADRATURE)
    clean = sto.record(intensity, cell, truth, FRAME, sto.camera_mtf())
    return clean + sto.correlated_noise(clean.shape, sto.NOISE_VARIANCE, generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wide", action="store_true", help="nearly all of the default bounds")
    options = parser.parse_args()
    cell = cell_of(cel_text())
    images, truths = [], []
    for child in np.random.SeedSequence(options.seed).spawn(options.count):
        generator = np.random.default_rng(child)
        truth = draw(generator, options.wide)
        with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
            images.append(experiment(cell, truth, generator).astype(np.float32))
        truths.append(json.dumps(truth.named_parameters()))
        print(f"{len(images)} of {options.count}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        images=np.array(images),
        truth=np.array(truths),
        cel=cel_text(),
        mtf=sto.camera_mtf(),
        noise_variance=sto.NOISE_VARIANCE,
        noise_correlation=np.array(sto.noise_correlation()),
        sampling_nm=FRAME.sampling_nm,
    )


if __name__ == "__main__":
    main()
