"""Make images of cubic and of tetragonal BaTiO3 [110] with known truth, simulated with abTEM.

    python -m benchmarks.references.make_candidates --out runs/candidates.npz [--count 20] [--sets 2] [--seed 1]

As `make_experiments`, whose conventions hold here: draws of noise of images with `sets` different imaging parameters and
thicknesses; every second image is of the tetragonal crystal (G. H. Kwei et al.,
J. Phys. Chem. 97, 2368, 1993: a 0.39910, c 0.40352 nm; Ti +0.0224, O -0.0105 and -0.0244 of c along it). The file has
`images` (n, rows, cols), noisy; `truth`, a JSON each with `candidate`, 0 or 1; `cels`, the text of both cells; `mtf`;
`noise_variance` and `noise_correlation`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import abtem
import numpy as np

from benchmarks.references import make_example as sto
from benchmarks.references import make_experiments as bto
from benchmarks.references.abtem_exit_wave import DETERMINISTIC, HARD_APERTURE

NAMES = ("cubic", "tetragonal")
TETRAGONAL_NM = (0.39910, 0.40352)
ALONG_C = {"Ba": 0.0, "Ti": 0.0224, "O": -0.0105, "O of Ba": -0.0244}


def cel_text(name: str) -> str:
    """The cell of a candidate."""
    if name == "cubic":
        return bto.cel_text()
    a, c = TETRAGONAL_NM
    size = (np.sqrt(2.0) * a, c, np.sqrt(2.0) * a)
    barium = {(x, y) for symbol, x, y, _ in sto.SITES if symbol == "Sr"}
    lines = ["# tetragonal BaTiO3, x=[-110], y=[001], beam z=[110]; written by make_candidates.py"]
    lines.append("  0 " + " ".join(f"{length:9.6f}" for length in size) + " 90.0 90.0 90.0")
    for symbol, x, y, z in sto.SITES:
        name = "Ba" if symbol == "Sr" else symbol
        moved = ALONG_C["O of Ba" if name == "O" and (x, y) in barium else name]
        b_factor = bto.B_FACTORS_NM2[name]
        lines.append(
            f"{name:>5}  {x:.6f} {(y - moved) % 1.0:.6f} {z:.6f} 1.000000 {b_factor:.6f} 0.0 0.0 0.0"
        )
    return "\n".join([*lines, "*", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    texts = [cel_text(name) for name in NAMES]
    cells = [bto.cell_of(text) for text in texts]
    *seeds, of_sets = np.random.SeedSequence(options.seed).spawn(options.count + 1)
    generator = np.random.default_rng(of_sets)
    sets = [bto.draw(generator, wide=False) for _ in range(options.sets)]
    images, truths = [], []
    for k, child in enumerate(seeds):
        generator, truth = np.random.default_rng(child), sets[k // 2 % len(sets)]
        with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
            images.append(bto.experiment(cells[k % 2], truth, generator).astype(np.float32))
        truths.append(json.dumps({"candidate": k % 2, **truth.named_parameters()}))
        print(f"{len(images)} of {options.count}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        images=np.array(images),
        truth=np.array(truths),
        cels=np.array(texts),
        mtf=sto.camera_mtf(),
        noise_variance=sto.NOISE_VARIANCE,
        noise_correlation=np.array(sto.noise_correlation()),
        sampling_nm=bto.FRAME.sampling_nm,
    )


if __name__ == "__main__":
    main()
