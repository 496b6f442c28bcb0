"""How time and memory grow with the field: the pipeline on wedges of more and more regions.

    python -m benchmarks.references.make_wedges --shown 4 4 --count 1 --seed 5 --out runs/w4.npz
    python -m benchmarks.references.make_wedges --shown 5 5 --count 1 --seed 5 --out runs/w5.npz
    python -m benchmarks.growth --wedges runs/w4.npz runs/w5.npz ... --out RUNS [--result JSON]

Each from its noisy image alone, as `benchmarks.wedges`, in a process of its own, one after the
other. Prints seconds of each stage (and how much of them compiled), the largest memory of the
process, the ratio of times and of regions to the first, and how much of the truth is found.
"""

import argparse
import json
import multiprocessing
import resource
from pathlib import Path

import numpy as np

from benchmarks.field import compare
from benchmarks.versions import versions
from benchmarks.wedges import run

STAGES = ("imaging", "structure", "reconstruct", "stitch")


def measured(path: Path, out: Path, options: list[str]) -> dict:
    """The first wedge of a file."""
    content = np.load(path)
    truth = json.loads(str(content["truth"][0]))
    folder = out / path.stem
    if folder.exists():
        raise SystemExit(f"{folder} is there: expected a new folder, runs are measured")
    result = run(content, 0, folder, options)
    costs = {
        stage: json.loads((folder / "wedge0" / stage / "result.json").read_text("utf-8"))["cost"]
        for stage in STAGES
    }
    return {
        "regions": len(truth["rois"]),
        **{f"{stage}_s": round(cost["wall_s"]) for stage, cost in costs.items()},
        **{f"{stage}_compile_s": round(cost["compile_s"]) for stage, cost in costs.items()},
        "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
        **compare(result, truth),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wedges", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--option", nargs="*", default=[], help="further settings of the runs")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    table = []
    context = multiprocessing.get_context("spawn")  # knows the largest of its own children alone
    for path in options.wedges:
        with context.Pool(1) as pool:
            given = (path, options.out.resolve(), options.option)
            entry = pool.apply(measured, given)
        entry["seconds"] = sum(entry[f"{stage}_s"] for stage in STAGES)
        table.append(entry)
        first = table[0]
        more = entry["regions"] / first["regions"], entry["seconds"] / first["seconds"]
        print(f"{more[0]:.2f} times the regions, {more[1]:.2f} times the time", flush=True)
        print(json.dumps(entry), flush=True)
    if options.result is not None:
        text = json.dumps({"versions": versions(), "fields": table}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
