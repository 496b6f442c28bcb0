"""Images of a crystal with a minority phase, simulated with abTEM: what stage `explore` is tried on.

    python -m benchmarks.references.make_phases --out phases.npz [--seeds 2]

Cubic BaTiO3 along [110], ten repeating units thick, 512 x 512 pixels of 0.02 nm. In an ellipse of 5 % of the area the
crystal is another: `sr`, barium is strontium; `polar`, titanium and oxygen are displaced along [001] by 25 and -15 pm.
300 kV, C3 -12 um, 6 nm of overfocus, focal spread 2.5 nm, white noise. The file holds of each image KIND+SEED the
image and, as KIND+SEED_mask, where the minority is.
"""

import argparse
from pathlib import Path

import abtem
import numpy as np
from ase import Atoms
from scipy.ndimage import map_coordinates

LATTICE = 4.005  # Angstrom
PIXELS, SAMPLING = 512, 0.2
UNITS = 10
SHARE = 0.05
KINDS = ("sr", "polar")
NOISE_VARIANCE = 2e-4


def crystal(rows: int, cols: int) -> Atoms:
    """Cubic BaTiO3, x along [001], y along [1-10], the beam along [110]."""
    diagonal = 2.0**0.5 * LATTICE
    sites = {
        "Ba": [(0, 0, 0), (0, 0.5, 0.5)],
        "Ti": [(0.5, 0.5, 0), (0.5, 0, 0.5)],
        "O": [
            (0.5, 0, 0),
            (0, 0.25, 0.25),
            (0, 0.75, 0.25),
            (0.5, 0.5, 0.5),
            (0, 0.75, 0.75),
            (0, 0.25, 0.75),
        ],
    }
    symbols = [symbol for symbol, places in sites.items() for _ in places]
    places = [place for group in sites.values() for place in group]
    cell = [LATTICE, diagonal, diagonal]
    return Atoms(symbols, scaled_positions=places, cell=cell, pbc=True) * (rows, cols, UNITS)


def image(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(the image, where the minority is)."""
    rng = np.random.default_rng(seed)
    width = PIXELS * SAMPLING
    diagonal = 2.0**0.5 * LATTICE
    atoms = crystal(int(np.ceil(width / LATTICE)), int(np.ceil(width / diagonal)))
    aspect = rng.uniform(1.0, 2.0)
    short = np.sqrt(SHARE * width**2 / np.pi / aspect)
    long = short * aspect
    angle = rng.uniform(0.0, np.pi)
    centre = rng.uniform(long, width - long, 2)

    def inside(xy: np.ndarray) -> np.ndarray:
        away = xy - centre
        along = away @ np.array([np.cos(angle), np.sin(angle)])
        across = away @ np.array([-np.sin(angle), np.cos(angle)])
        return (along / long) ** 2 + (across / short) ** 2 < 1.0

    symbols, places = np.array(atoms.get_chemical_symbols()), atoms.get_positions()
    part = inside(places[:, :2])
    if kind == "sr":
        symbols[part & (symbols == "Ba")] = "Sr"
    else:
        places[part & (symbols == "Ti"), 0] += 0.25
        places[part & (symbols == "O"), 0] -= 0.15
    atoms = Atoms(list(symbols), positions=places, cell=atoms.cell, pbc=True)
    atoms.wrap()
    lengths = atoms.cell.lengths()
    points = tuple(int(np.ceil(length / 0.18)) for length in lengths[:2])
    potential = abtem.Potential(
        atoms, gpts=points, slice_thickness=diagonal / 3.9999, parametrization="lobato"
    )
    wave = abtem.PlaneWave(energy=300e3).multislice(potential).compute()
    lens = abtem.CTF(
        energy=300e3, semiangle_cutoff=40.0, C30=-1.2e5, defocus=-60.0, focal_spread=25.0
    )
    intensity = wave.apply_ctf(lens).intensity().array
    pixels = np.arange(PIXELS) * SAMPLING
    at = np.meshgrid(
        *(pixels / n * p for n, p in zip(lengths, points, strict=False)), indexing="ij"
    )
    found = map_coordinates(intensity, at, order=3, mode="grid-wrap")
    found = found + NOISE_VARIANCE**0.5 * rng.normal(size=found.shape)
    grid = np.stack(np.meshgrid(pixels, pixels, indexing="ij"), axis=-1)
    return found.astype(np.float32), inside(grid.reshape(-1, 2)).reshape(found.shape)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    found = {}
    for kind in KINDS:
        for seed in range(options.seeds):
            found[f"{kind}{seed}"], found[f"{kind}{seed}_mask"] = image(kind, seed)
    np.savez_compressed(options.out, **found)


if __name__ == "__main__":
    main()
