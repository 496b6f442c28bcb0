"""Make the YAlO3 [001] experiment: a wedge of known numbers of atoms, simulated with abTEM.

    python -m benchmarks.references.make_yalo3 --out benchmarks/data/yalo3

The supercell holds 6 x 3 orthorhombic cells (Pbnm) seen along c, where (YO) and (AlO2) layers
alternate: a row of vacuum, three rows that grow thicker, and, beyond the frame, a row of crystal and one of vacuum. The frame shows 4 x 2 cells. abTEM
does multislice, tilt and aberrations as in `make_example.py`, whose conventions hold here too. Written:

    YAlO3_001.cif        the published cell, beam along c
    YAlO3_001.cel        the same with its origin moved, so that columns keep off the edges of regions
    yalo3.npy            float32 [240, 116] with camera-like noise; the first 60 rows are vacuum
    yalo3.mtf            camera MTF
    truth.json           parameters, and of each region: numbers of atoms, first cell, exit slice

Cell: R. Diehl, G. Brandt, Mater. Res. Bull. 10, 85 (1975), a = 5.180, b = 5.330, c = 7.375 Angstrom.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import abtem
import numpy as np

from benchmarks.references.abtem_exit_wave import DETERMINISTIC, HARD_APERTURE, read_cel
from benchmarks.references.make_example import (
    MTF_POINTS,
    NOISE_VARIANCE,
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

SIZE_NM = (0.5180, 0.5330, 0.7375)
SITES = (  # asymmetric unit of Pbnm: label, element, x, y, z, B in nm^2
    ("Y", "Y", -0.0104, 0.0526, 0.25, 0.0040),
    ("Al", "Al", 0.5, 0.0, 0.0, 0.0035),
    ("O1", "O", 0.086, 0.475, 0.25, 0.0055),
    ("O2", "O", -0.297, 0.293, 0.044, 0.0055),
)
OPERATIONS = (
    "x, y, z",
    "-x, -y, z+1/2",
    "x+1/2, -y+1/2, -z",
    "-x+1/2, y+1/2, -z+1/2",
    "-x, -y, -z",
    "x, y, -z+1/2",
    "-x+1/2, y+1/2, z",
    "x+1/2, -y+1/2, z+1/2",
)
ORIGIN = (0.145, 0.13)  # of the cell that is used, so that no column lies on its edges
SLICES = 4  # per cell: (AlO2)/2, (YO) + O, ... the layers' atoms as floor(4 z)
CELLS = (6, 3)  # rows, columns of the supercell
STACK = 5  # cells along the beam
SHOWN = (4, 2)
GPTS_PER_CELL = 96
FRAME = Frame(rows=240, cols=116, sampling_nm=0.0089)
THICKNESS = (0, 2, 3, 4, 4, 0)  # cells, of each row of the supercell
TRUTH = Truth(
    thickness=STACK * SLICES,
    absorption=0.018,
    tilt_x=-1.2,
    tilt_y=1.6,
    focus_spread=3.2,
    semi_convergence=0.25,
    image_spread=0.017,
    aberrations={
        "A0": 0.004 + 0.006j,
        "C1": 5.6 + 0j,
        "A1": -0.9 + 1.1j,
        "B2": -18.0 + 24.0j,
        "A2": 22.0 + 18.0j,
        "C3": -5600.0 + 0j,
        "S3": 400.0 + 600.0j,
        "A3": -700.0 + 500.0j,
        "C5": 3e6 + 0j,
    },
)


def cif_text() -> str:
    """The cell as CIF."""
    lines = ["data_YAlO3", "_chemical_formula_sum 'Al O3 Y'"]
    lines += [f"_cell_length_{k} {10 * s:.4f}" for k, s in zip("abc", SIZE_NM, strict=True)]
    lines += [f"_cell_angle_{k} 90" for k in ("alpha", "beta", "gamma")]
    lines += ["_space_group_name_H-M_alt 'P b n m'", "loop_", "_space_group_symop_operation_xyz"]
    lines += [f"'{operation}'" for operation in OPERATIONS]
    names = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy", "B_iso_or_equiv")
    lines += ["loop_", *(f"_atom_site_{name}" for name in names)]
    lines += [f"{n} {e} {x} {y} {z} 1.0 {100 * b:.3f}" for n, e, x, y, z, b in SITES]
    return "\n".join([*lines, ""])


def cell_atoms() -> list[tuple[str, float, float, int, float]]:
    """(element, x, y, slice, B) of the whole cell, each position once."""
    found: dict[tuple, tuple] = {}
    for _, element, x, y, z, b in SITES:
        for operation in OPERATIONS:
            values = [
                eval(part.replace("1/2", "0.5"), {}, {"x": x, "y": y, "z": z})
                for part in operation.split(",")
            ]
            px, py, pz = (v % 1.0 for v in values)
            px, py = (px - ORIGIN[0]) % 1.0, (py - ORIGIN[1]) % 1.0
            key = (element, *(round(v % 1.0, 3) % 1.0 for v in (px, py, pz)))
            found.setdefault(key, (element, px, py, int((pz + 1e-6) % 1.0 * SLICES), b))
    return list(found.values())


def cel_text(atoms: list[tuple[str, float, float, int, float]]) -> str:
    """The cell with its origin moved, as a Dr. Probe CEL file; atoms in the middle of slices."""
    lines = [f"# YAlO3 along c of Pbnm, origin at {ORIGIN} of the published cell"]
    lines.append(" 0 " + " ".join(f"{s:.6f}" for s in SIZE_NM) + " 90 90 90")
    for element, x, y, where, b in atoms:
        lines.append(f" {element} {x:.6f} {y:.6f} {(where + 0.5) / SLICES:.6f} 1.0 {b:.6f} 0 0 0")
    return "\n".join([*lines, "*", ""])


def make(out: Path, seed: int) -> None:
    """Simulate and write all files to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    atoms = cell_atoms()
    assert len(atoms) == 20, len(atoms)
    (out / "YAlO3_001.cel").write_text(cel_text(atoms), encoding="utf-8")
    chains: dict[tuple, list] = {}
    for element, x, y, where, b in atoms:
        chains.setdefault((element, round(x, 4), round(y, 4)), [b]).append(where)
    rng = np.random.default_rng(seed)
    lines, regions = [], []
    for i in range(CELLS[0]):
        for j in range(CELLS[1]):
            if THICKNESS[i] == 0:
                continue
            first = int(rng.integers(0, min(2, STACK - THICKNESS[i] + 1)))
            counts, last = [], 0
            for (element, x, y), (b, *slices) in chains.items():
                most = THICKNESS[i] * len(slices)
                count = int(np.clip(most - rng.integers(0, 1 + len(slices)), 1, most))
                places = sorted(m * SLICES + s for m in range(THICKNESS[i]) for s in slices)
                for place in places[:count]:
                    at = first * SLICES + place
                    last = max(last, at + 1)
                    lines.append(
                        f" {element} {(x + j) / CELLS[1]:.8f} {(y + i) / CELLS[0]:.8f} "
                        f"{(at + 0.5) / (STACK * SLICES):.8f} 1.0 {b:.6f} 0 0 0"
                    )
                counts.append({"species": element, "x": x, "y": y, "n": count})
            if i < SHOWN[0] and j < SHOWN[1]:
                regions.append(
                    {
                        "origin_px": [60 * i, 58 * j],
                        "counts": counts,
                        "first_cell": first,
                        "exit_slice": last,
                    }
                )
    size = (SIZE_NM[0] * CELLS[1], SIZE_NM[1] * CELLS[0], SIZE_NM[2] * STACK)
    head = ["# supercell", " 0 " + " ".join(f"{s:.6f}" for s in size) + " 90 90 90"]
    model = out / "supercell.cel"
    model.write_text("\n".join([*head, *lines, "*", ""]), encoding="utf-8")
    cell = read_cel(model, STACK * SLICES)
    model.unlink()
    gpts = (GPTS_PER_CELL * CELLS[1], GPTS_PER_CELL * CELLS[0])
    with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
        wave = exit_wave(cell, TRUTH, gpts)
        intensity = image_intensity(
            wave, cell, TRUTH, Quadrature(foci=25, tilt_step=0.7, tilt_range=2.1, focus_range=3.0)
        )
    mtf = camera_mtf()
    clean = record(intensity, cell, TRUTH, FRAME, mtf)
    noisy = clean + correlated_noise(clean.shape, NOISE_VARIANCE, rng)
    np.save(out / "yalo3.npy", noisy.astype(np.float32))
    (out / "YAlO3_001.cif").write_text(cif_text(), encoding="utf-8")
    text = [str(MTF_POINTS), *(f"{value:.10f}" for value in mtf)]
    (out / "yalo3.mtf").write_text("\n".join(text) + "\n", encoding="utf-8")
    description = {
        "made_by": f"make_yalo3.py, abTEM {abtem.__version__}, seed {seed}",
        "aberration_convention": "drprobe",
        "parameters": TRUTH.named_parameters(),
        "reference_plane": "C1 and A0 belong to the end of the stack",
        "stack_slices": STACK * SLICES,
        "noise": {"variance": NOISE_VARIANCE, "correlation_by_lag": noise_correlation()},
        "rois": regions,
    }
    (out / "truth.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the YAlO3 experiment.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20260326)
    options = parser.parse_args()
    make(options.out, options.seed)


if __name__ == "__main__":
    main()
