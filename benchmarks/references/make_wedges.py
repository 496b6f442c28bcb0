"""Make wedges with known truth: fields of BaTiO3 [110] below vacuum, simulated with abTEM.

    python -m benchmarks.references.make_wedges --out runs/wedges.npz [--seed 1] [--count 16] [--shown 3 3]

As `make_experiments` and `make_field`, whose conventions hold here. A wedge is a row of vacuum above 3 x 3 regions, or as
many as `--shown` says; more crystal stands below and on both sides. Depth, roughness, tilt, imaging parameters and noise are drawn. Eight wedges are
as the cell and the camera say that come with them; four are not, and four lie between amorphous layers (`OTHERWISE`).
The file has `noisy` (n, rows, cols);
`truth`, a JSON each, with the names of `synthetic_field.npz`, and `displaced_pm`: how much further titanium lies
towards smaller y (upwards) from row to row, on average; `cel`, `mtf`,
`noise_correlation` by lag, `sampling_nm`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import abtem
import numpy as np
from ase.data import atomic_numbers

from benchmarks.references import make_example as sto
from benchmarks.references import make_experiments as bto
from benchmarks.references.abtem_exit_wave import DETERMINISTIC, HARD_APERTURE, Atom, Cell
from benchmarks.references.make_field import Chain, Region, sites_below

ROI_PX = (45, 64)
SAMPLING_NM = 0.00887
SHOWN = (3, 3)
GPTS_PER_CELL = (96, 68)  # x and y
SIZE_NM = (2.0**0.5 * bto.LATTICE_NM, bto.LATTICE_NM)
SLICE_NM = SIZE_NM[0] / sto.SLICES_PER_CELL
NOISE_VARIANCE = (1e-4, 8e-4)
THICKNESS, STEP = (6, 12), (4, 10)  # slices of the first row, and how many more the last one has
MOST = 26  # slices of a region
ROUGHNESS = (0.1, 0.6)  # share of the chains that have an atom more or less
DISPLACED_PM = (2.0, 5.0)  # of Ti along y, per row
SCATTER_PM = 3.0
CONFIGURATIONS = 12  # of frozen phonons

OTHERWISE = dict(
    enumerate(
        ("mtf", "debye_waller", "phonons", "mtf", "carbon", "disorder", "carbon", "disorder"), 8
    )
)
"""What a model lacks of these wedges: a camera whose MTF is read at frequencies 2 % off; Debye-Waller factors that are
15 % larger; thermal diffuse scattering (frozen phonons in place of Debye-Waller factors); 1 nm of atoms at random on
either side, of carbon or of the crystal's own kinds."""

LAYER_SLICES = 7  # 1 nm
LAYERS = {
    "carbon": {"C": 2.0 / 12.011 * 602.2},  # atoms/nm^3, of 2.0 g/cm^3
    "disorder": {kind: n / bto.LATTICE_NM**3 for kind, n in (("Ba", 1), ("Ti", 1), ("O", 3))},
}
CARBON_B_NM2 = 0.005

CHAINS: tuple[Chain, ...] = tuple(sorted({(s, x, y) for s, x, y, _ in sto.SITES}))


def named(symbol: str) -> str:
    """The element on the place of one of the embedded example's."""
    return "Ba" if symbol == "Sr" else symbol


@dataclasses.dataclass(frozen=True)
class Wedge:
    """One experiment: `regions` by (row, column) of the supercell."""

    kind: str
    truth: sto.Truth
    regions: dict[tuple[int, int], Region]
    noise_variance: float
    shown: tuple[int, int]
    displaced_pm: float
    mtf_scale: float = 1.0
    b_scale: float = 1.0

    @property
    def cells(self) -> tuple[int, int]:
        """Rows (vacuum, those shown, one more, vacuum) and columns (one more on either side) of the supercell."""
        return self.shown[0] + 3, self.shown[1] + 2

    @property
    def slices(self) -> int:
        """Down to the last atom."""
        return max(region.exit for region in self.regions.values())


def draw(generator: np.random.Generator, kind: str, shown: tuple[int, int] = SHOWN) -> Wedge:
    """A wedge."""
    truth = bto.draw(generator, wide=False)
    rough = generator.uniform(*ROUGHNESS)
    first, step = (
        generator.integers(*THICKNESS, endpoint=True),
        generator.uniform(*STEP) / max(shown[0] - 1, 1),
    )
    displaced = generator.uniform(*DISPLACED_PM)
    regions = {}
    for row in range(1, shown[0] + 2):
        for col in range(shown[1] + 2):
            entrance = sto.SLICES_PER_CELL * int(generator.integers(0, 2))
            flat = min(int(first + step * (row - 1) + generator.integers(-1, 2)), MOST)
            counts = {}
            for chain in CHAINS:
                full = sum(s < entrance + flat for s in sites_below(chain, entrance, 40))
                change = generator.choice((-1, 1)) if generator.uniform() < rough else 0
                counts[chain] = max(int(full + change), 1)
            shifts = {}
            for x, y in sorted({(x, y) for _, x, y in CHAINS}):
                dx, dy = SCATTER_PM * generator.standard_normal(2)
                along = displaced * row if ("Ti", x, y) in CHAINS else 0.0
                shifts[x, y] = (float(dx), float(dy - along))
            regions[row, col] = Region(entrance, counts, shifts)
    noise_variance = float(np.exp(generator.uniform(*np.log(NOISE_VARIANCE))))
    wedge = Wedge(kind, truth, regions, noise_variance, shown, float(displaced))
    aberrations = {**truth.aberrations, "A0": 0j}
    return dataclasses.replace(
        wedge,
        truth=dataclasses.replace(truth, thickness=wedge.slices, aberrations=aberrations),
        mtf_scale=float(generator.choice((0.98, 1.02))) if kind == "mtf" else 1.0,
        b_scale=1.15 if kind == "debye_waller" else 1.0,
    )


def supercell(wedge: Wedge, vibration: np.random.Generator | None = None) -> Cell:
    """The specimen; with `vibration`, a configuration of displaced atoms without Debye-Waller factors. The first region
    of the frame stands in the second row and the first column."""
    rows, cols = wedge.cells
    atoms = []
    for (row, col), region in wedge.regions.items():
        for chain in CHAINS:
            symbol, x, y = chain
            b_factor = wedge.b_scale * bto.B_FACTORS_NM2[named(symbol)]
            for index in region.slices(chain):
                shift = 1e-3 * np.array(region.shift_pm[x, y])
                if vibration is not None:
                    shift = shift + np.sqrt(b_factor / 8.0) / np.pi * vibration.standard_normal(2)
                atoms.append(
                    Atom(
                        atomic_numbers[named(symbol)],
                        (col - 1 + x + shift[0] / SIZE_NM[0]) / cols % 1.0,
                        (row + y + shift[1] / SIZE_NM[1]) / rows % 1.0,
                        index,
                        0.0 if vibration is not None else b_factor,
                    )
                )
    return Cell(_size(wedge, wedge.slices), wedge.slices, tuple(atoms))


def _size(wedge: Wedge, slices: int) -> tuple[float, float, float]:
    return wedge.cells[1] * SIZE_NM[0], wedge.cells[0] * SIZE_NM[1], slices * SLICE_NM


def between_layers(wedge: Wedge, cell: Cell, generator: np.random.Generator) -> Cell:
    """The specimen between two layers of atoms at random, which follow its faces."""
    rows, cols = wedge.cells
    atoms = [atom._replace(slice_index=atom.slice_index + LAYER_SLICES) for atom in cell.atoms]
    volume = SIZE_NM[0] * SIZE_NM[1] * LAYER_SLICES * SLICE_NM
    for (row, col), region in wedge.regions.items():
        for first in (region.entrance, region.exit + LAYER_SLICES):
            for kind, density in LAYERS[wedge.kind].items():
                for _ in range(generator.poisson(density * volume)):
                    x, y = generator.uniform(size=2)
                    depth = first + int(generator.integers(LAYER_SLICES))
                    place = (col - 1 + x) / cols % 1.0, (row + y) / rows % 1.0
                    b_factor = bto.B_FACTORS_NM2.get(kind, CARBON_B_NM2)
                    atoms.append(Atom(atomic_numbers[kind], *place, depth, b_factor))
    slices = cell.n_slices + 2 * LAYER_SLICES
    return Cell(_size(wedge, slices), slices, tuple(atoms))


def record(wedge: Wedge, generator: np.random.Generator) -> np.ndarray:
    """The camera's image without noise."""
    gpts = (GPTS_PER_CELL[0] * wedge.cells[1], GPTS_PER_CELL[1] * wedge.cells[0])
    thermal = wedge.kind == "phonons"
    cells = [supercell(wedge, generator) for _ in range(CONFIGURATIONS)] if thermal else []
    cells = cells or [supercell(wedge)]
    truth = wedge.truth
    if wedge.kind in LAYERS:
        cells = [between_layers(wedge, cells[0], generator)]
        # C1 is given at the last slice of the crystal, and this ends a layer below it
        behind = {**truth.aberrations, "C1": truth.aberrations["C1"] - LAYER_SLICES * SLICE_NM}
        truth = dataclasses.replace(truth, aberrations=behind, thickness=cells[0].n_slices)
    intensity = np.mean(
        [
            sto.image_intensity(sto.exit_wave(cell, truth, gpts), cell, truth, bto.QUADRATURE)
            for cell in cells
        ],
        axis=0,
    )
    frame = sto.Frame(ROI_PX[0] * (wedge.shown[0] + 1), ROI_PX[1] * wedge.shown[1], SAMPLING_NM)
    mtf = sto.camera_mtf()
    f = np.linspace(0.0, 1.0, len(mtf))
    return sto.record(intensity, cells[0], truth, frame, np.interp(f * wedge.mtf_scale, f, mtf))


def description(wedge: Wedge) -> dict:
    """The truth, C1 and A0 at the plane behind the last slice."""
    c1 = wedge.truth.aberrations["C1"].real
    places = sorted({(x, y) for _, x, y in CHAINS})
    return {
        "made_by": f"make_wedges.py, abTEM {abtem.__version__}",
        "kind": wedge.kind,
        "aberration_convention": "drprobe",
        "parameters": wedge.truth.named_parameters(),
        "noise_variance": wedge.noise_variance,
        "displaced_pm": wedge.displaced_pm,
        "mtf_scale": wedge.mtf_scale,
        "b_scale": wedge.b_scale,
        "exit_reference_slice": wedge.slices,
        "slice_nm": SLICE_NM,
        "column_order": [f"{named(s)} {x} {y}" for s, x, y in CHAINS],
        "position_order": places,
        "rois": [
            {
                "origin_px": [ROI_PX[0] * row, ROI_PX[1] * (col - 1)],
                "counts": [region.counts[chain] for chain in CHAINS],
                "entrance_slice": region.entrance,
                "exit_slice": region.exit,
                "C1_roi": c1 + (wedge.slices - region.exit) * SLICE_NM,
                "shift_pm": [[round(s, 4) for s in region.shift_pm[place]] for place in places],
            }
            for (row, col), region in wedge.regions.items()
            if 1 <= row <= wedge.shown[0] and 1 <= col <= wedge.shown[1]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument(
        "--shown", type=int, nargs=2, default=SHOWN, help="rows and columns of regions"
    )
    options = parser.parse_args()
    images, truths = [], []
    for k, child in enumerate(np.random.SeedSequence(options.seed).spawn(options.count)):
        generator = np.random.default_rng(child)
        wedge = draw(generator, OTHERWISE.get(k, "as modelled"), tuple(options.shown))
        with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
            clean = record(wedge, generator)
        noisy = clean + sto.correlated_noise(clean.shape, wedge.noise_variance, generator)
        images.append(noisy.astype(np.float32))
        truths.append(json.dumps(description(wedge)))
        print(f"{k + 1} of {options.count}", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            options.out,
            noisy=np.array(images),
            truth=np.array(truths),
            cel=bto.cel_text(),
            mtf=sto.camera_mtf(),
            noise_correlation=np.array(sto.noise_correlation()),
            sampling_nm=SAMPLING_NM,
        )


if __name__ == "__main__":
    main()
