"""Make the field of the tests: a wedge of SrTiO3 [110] below vacuum with known truth, simulated with abTEM.

    python -m benchmarks.references.make_field --out tests/data

Conventions, crystal and camera are those of `make_example`. One region of one cell stands below the other; each has
an entrance face of its own, numbers of atoms of its own in every chain (atoms of one element in one column), and
columns that are displaced. The frame ends above the last region. Files:

    field.npy            float32 [rows, columns]: 44 rows of vacuum, then four regions of 44 rows; noise
    field.json           the truth: every parameter, C1 and A0 at the plane `exit_reference_slice`; of every region
                         numbers of atoms, first and last slice, C1 at its own exit plane, shifts in pm
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import abtem
import numpy as np
from ase.data import atomic_numbers

from benchmarks.references.abtem_exit_wave import DETERMINISTIC, HARD_APERTURE, Atom, Cell
from benchmarks.references.make_example import (
    B_FACTORS_NM2,
    GPTS,
    LATTICE_NM,
    NOISE_VARIANCE,
    SITES,
    SLICES_PER_CELL,
    Frame,
    Quadrature,
    Truth,
    camera_mtf,
    correlated_noise,
    exit_wave,
    image_intensity,
    noise_correlation,
    record,
)

WIDTH_NM = 2.0**0.5 * LATTICE_NM
SLICE_NM = WIDTH_NM / SLICES_PER_CELL
ROI_PX = (44, 62)
SAMPLING_NM = 0.0089
ENTRANCE = (4, 0, 0, 4, 0)  # first slice of each region, from the vacuum on
THICKNESS = (9, 13, 14, 12, 17)  # slices of a region whose exit face is flat
SHOWN = 4  # regions inside the frame
ROUGHNESS = (-1, 0, 0, 0, 1)  # atoms more or less at the exit face
DISPLACED_PM = {"Ti": 2.5, "O": -1.5}  # along y, per region from the vacuum on, of the layers of Ti
SCATTER_PM = 2.0

Chain = tuple[str, float, float]  # element, and place as fractions of the cell


@dataclass(frozen=True)
class Region:
    """What stands in one cell of the field."""

    entrance: int
    counts: dict[Chain, int]
    shift_pm: dict[tuple[float, float], tuple[float, float]]

    def slices(self, chain: Chain) -> list[int]:
        """The slices of a chain's atoms, counted from the stack's first."""
        return list(sites_below(chain, self.entrance, self.counts[chain]))

    @property
    def exit(self) -> int:
        """The first slice behind all atoms."""
        return 1 + max(self.slices(chain)[-1] for chain in self.counts)


def sites_below(chain: Chain, first: int, count: int) -> Iterator[int]:
    """Slices of the first `count` sites of a chain from slice `first` on."""
    places = {int(z * SLICES_PER_CELL) for s, x, y, z in SITES if (s, x, y) == chain}
    k = first
    while count:
        if k % SLICES_PER_CELL in places:
            yield k
            count -= 1
        k += 1


def regions(generator: np.random.Generator) -> list[Region]:
    """Regions of a wedge with a rough exit face."""
    chains = sorted({(s, x, y) for s, x, y, _ in SITES})
    columns = sorted({(x, y) for _, x, y in chains})
    found = []
    for k, (entrance, thickness) in enumerate(zip(ENTRANCE, THICKNESS, strict=True)):
        counts = {}
        for chain in chains:
            flat = sum(s < entrance + thickness for s in sites_below(chain, entrance, 40))
            counts[chain] = int(flat + generator.choice(ROUGHNESS))
        shifts = {}
        for x, y in columns:
            elements = {s for s, cx, cy in chains if (cx, cy) == (x, y)}
            along = 0.0 if "Sr" in elements else DISPLACED_PM[elements.pop()] * k
            dx, dy = SCATTER_PM * generator.standard_normal(2)
            shifts[x, y] = (float(dx), float(dy + along))
        found.append(Region(entrance, counts, shifts))
    return found


def supercell(wedge: list[Region], slices: int) -> Cell:
    """The whole specimen: a row of vacuum, the regions, a row of vacuum."""
    rows = len(wedge) + 2
    atoms = []
    for k, region in enumerate(wedge):
        for chain in region.counts:
            symbol, x, y = chain
            dx, dy = region.shift_pm[x, y]
            for index in region.slices(chain):
                atoms.append(
                    Atom(
                        atomic_numbers[symbol],
                        x + 1e-3 * dx / WIDTH_NM,
                        (k + 1 + y + 1e-3 * dy / LATTICE_NM) / rows,
                        index,
                        B_FACTORS_NM2[symbol],
                    )
                )
    return Cell((WIDTH_NM, rows * LATTICE_NM, slices * SLICE_NM), slices, tuple(atoms))


def make_field(out: Path, seed: int) -> None:
    """Simulate and write both files to ``out``."""
    for_wedge, for_noise = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)
    )
    wedge = regions(for_wedge)
    reference = max(region.exit for region in wedge)
    truth = Truth(thickness=reference)
    cell = supercell(wedge, reference)
    rows = len(wedge) + 2
    frame = Frame(ROI_PX[0] * (SHOWN + 1), ROI_PX[1], SAMPLING_NM)
    with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
        wave = exit_wave(cell, truth, (GPTS[0], rows * GPTS[1]))
        intensity = image_intensity(wave, cell, truth, Quadrature(foci=21))
    clean = record(intensity, cell, truth, frame, camera_mtf())
    noisy = clean + correlated_noise(clean.shape, NOISE_VARIANCE, for_noise)

    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "field.npy", noisy.astype(np.float32))
    chains = list(wedge[0].counts)
    places = list(wedge[0].shift_pm)
    description = {
        "made_by": f"make_field.py, abTEM {abtem.__version__}, seed {seed}",
        "aberration_convention": "drprobe",
        "parameters": truth.named_parameters(),
        "exit_reference_slice": reference,
        "slice_nm": SLICE_NM,
        "sampling_nm": SAMPLING_NM,
        "roi_px": ROI_PX,
        "noise": {"variance": NOISE_VARIANCE, "correlation_by_lag": noise_correlation()},
        "chains": chains,
        "columns": places,
        "rois": [
            {
                "origin_px": [ROI_PX[0] * (k + 1), 0],
                "counts": [region.counts[chain] for chain in chains],
                "entrance_slice": region.entrance,
                "exit_slice": region.exit,
                "C1_roi": truth.aberrations["C1"].real + (reference - region.exit) * SLICE_NM,
                "shift_pm": [[round(s, 4) for s in region.shift_pm[place]] for place in places],
            }
            for k, region in enumerate(wedge[:SHOWN])
        ],
    }
    (out / "field.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument(
        "--seed", type=int, default=20261124, help="seed of the wedge and its noise"
    )
    options = parser.parse_args()
    make_field(options.out, options.seed)


if __name__ == "__main__":
    main()
