"""How often imaging ends in the right basin, on experiments whose truth is known.

    python -m benchmarks.references.make_experiments --out runs/experiments.npz
    python -m benchmarks.basins --experiments runs/experiments.npz --out runs/basins.json

Each experiment is fitted with the default options, one after the other in processes of one core
each. An experiment is right where the thickness is exact and the mean squared error is at most 10 %
above the noise's variance.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import write_specimen
from benchmarks.versions import versions

BEYOND_NOISE = 1.1


def settings(folder: Path, k: int, known: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Settings of experiment `k`, with its files in `folder`."""
    image = folder / f"image{k}.npy"
    np.save(image, known["images"][k])
    cell, camera = write_specimen(folder, known)
    content: dict[str, Any] = {
        "stage": "imaging",
        "seed": k,
        "data": {
            "image": str(image),
            "sampling_nm": float(known["sampling_nm"]),
            "mtf": str(camera),
            "mtf_scale": float(known.get("mtf_scale", 1.0)),
            "noise_variance": float(known["noise_variance"]),
            "noise_correlation": known["noise_correlation"].tolist(),
        },
        "specimen": {
            "structure": str(cell),
            "scattering": str(known.get("scattering", "lobato")),
        },
        "microscope": {"aberration_convention": "drprobe"},
    }
    return content | more


def fitted(task: tuple[str, int, dict[str, Any]]) -> dict[str, Any]:
    """What one fit found, and what it took."""
    path, k, more = task
    import jax

    from qhrtem_jax.inputs.reader import Reader
    from qhrtem_jax.io.journal import Journal
    from qhrtem_jax.io.run_folder import RunFolder
    from qhrtem_jax.stages import STAGES, run_settings

    jax.config.update("jax_enable_x64", True)
    known = dict(np.load(path))
    truth = json.loads(str(known["truth"][k]))
    with tempfile.TemporaryDirectory() as scratch:
        chosen = run_settings(settings(Path(scratch), k, known, more))
        stage = STAGES["imaging"]
        began = time.perf_counter()
        problem = stage.prepare(chosen, Reader())
        result = stage.run(problem, Journal(RunFolder(Path(scratch) / "run"), lambda now: None))
        seconds = time.perf_counter() - began
    thickness = result.parameters["thickness"]
    ratio = result.fit.mse / float(known["noise_variance"])
    off = [
        abs(result.parameters[name].value - truth[name]) / (high - low)
        for name, (low, high) in result.bounds.items()
        if name in truth and name != "thickness"
    ]
    return {
        "experiment": k,
        "truth": truth["thickness"],
        "found": thickness.value,
        "std": thickness.std,
        "mse_over_noise": ratio,
        "off": float(np.median(off)),
        "right": thickness.value == truth["thickness"] and ratio <= BEYOND_NOISE,
        "evaluations": result.cost.evaluations,
        "gradient_evaluations": result.cost.gradient_evaluations,
        "seconds": seconds,
        "warnings": list(result.warnings),
    }


def _on_core(counter: Any) -> None:
    """A core of its own for each process: XLA's threads hinder each other."""
    with counter.get_lock():
        k, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[k % len(cores)]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of experiments")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--optimizer", type=json.loads, default={}, help="JSON of its options")
    options = parser.parse_args()
    count = len(np.load(options.experiments)["images"])
    more = {"optimizer": options.optimizer} if options.optimizer else {}
    tasks = [(str(options.experiments), k, more) for k in options.only or range(count)]
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(options.processes, _on_core, (spawn.Value("i", 0),)) as pool:
        for row in pool.imap_unordered(fitted, tasks):
            rows.append(row)
            print({key: row[key] for key in row if key != "warnings"}, flush=True)
    rows.sort(key=lambda row: row["experiment"])
    seconds = [row["seconds"] for row in rows]
    right = sum(row["right"] for row in rows)
    content = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "runs": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{right} of {len(rows)} right; median {np.median(seconds):.1f} s")


if __name__ == "__main__":
    main()
