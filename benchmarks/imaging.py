"""The whole imaging command on the averaged image of BaTiO3, seed by seed.

    python -m benchmarks.imaging --bto DIR --out benchmarks/results/imaging.json [--seeds 10]

Each run is a process of its own (import, compilation, search, figures, report). The very first has
an empty compilation cache ("cold"). Peers, as published or measured elsewhere: the paper, MSE
0.0007 and NCC 98.1 % in about 75 s on an RTX 3090.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.problems import bto_overrides
from benchmarks.versions import versions

VARIANTS = {
    "hybrid": ["optimizer=hybrid"],
    "turbo": ["optimizer=turbo"],
    "turbo, nothing profiled": ["optimizer=turbo", "optimizer.profile=[]"],
    "paper": ["optimizer=paper"],
    "hybrid, priors": ["optimizer=hybrid", "parameters=corrected_microscope"],
}


def overrides(folder: Path) -> list[str]:
    """Hydra overrides of the image and its specimen."""
    return [
        f"{group}.{key}={json.dumps(value) if isinstance(value, list) else value}".replace(" ", "")
        for group, options in bto_overrides(folder).items()
        for key, value in options.items()
    ]


def run(arguments: list[str], folder: Path, cache: Path) -> dict:
    """One command; what it found and what it took."""
    command = [sys.executable, "-m", "experiments.run", "+stage=imaging", *arguments]
    environment = os.environ | {"QHRTEM_CACHE": str(cache)}
    start = time.perf_counter()
    subprocess.run(
        [*command, f"hydra.run.dir={folder}"], check=True, env=environment, capture_output=True
    )
    wall = time.perf_counter() - start
    result = json.loads((folder / "result.json").read_text())
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    early = [float(r["best_mse"]) for r in history if int(r["evaluations"]) <= 250]
    return {
        "mse": result["fit"]["mse"],
        "ncc": result["fit"]["ncc"],
        "best_mse_250": min(early),
        "thickness": result["parameters"]["thickness"]["value"],
        **{k: result["cost"][k] for k in ("evaluations", "gradient_evaluations", "compile_s")},
        "search_s": float(history[-1]["seconds"]),
        "command_s": wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    content: dict = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "runs": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for variant in options.variants:
            rows = content["runs"].setdefault(variant, [])
            for seed in range(options.seeds):
                folder = Path(scratch) / f"{len(content['runs'])}-{seed}"
                arguments = [*overrides(options.bto), *VARIANTS[variant], f"seed={seed}"]
                rows.append(run(arguments, folder, Path(scratch) / "cache"))
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                print(f"{variant}, seed {seed}: {rows[-1]}", flush=True)
    for variant, rows in content["runs"].items():
        mse = np.array([row["mse"] for row in rows])
        seconds = np.array([row["command_s"] for row in rows])
        print(
            f"{variant:24} {len(rows)} seeds: MSE {mse.min():.6f} .. {mse.max():.6f}, "
            f"command {seconds[0]:.0f} s first, then {np.median(seconds[1:]):.0f} s"
        )


if __name__ == "__main__":
    main()
