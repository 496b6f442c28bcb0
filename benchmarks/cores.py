"""How much faster regions are counted by more cores, and by more processes.

    python -m benchmarks.cores --field FIELD.npz --bto DIR --out RUNS [--result JSON]
        [--stage reconstruct] [--cores 1 2]

Each way once to compile, then `--repeats` times in turn, so that drifts of the machine cancel:
`cores=N` of one process, and `engine=local` with as many workers as there are cores in the last of
these. The imaging parameters are the true ones. Prints seconds of the stage (without starting
Python), the ratio to the first way, and whether all numbers are the same.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.versions import versions


def prepared(field: Path, bto: Path, out: Path) -> list[str]:
    """Options of the field, with its truth as imaging parameters."""
    content = np.load(field)
    truth = json.loads(str(content["truth"]))
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "field.npy", content["noisy"])
    known = {name: {"value": value} for name, value in truth["parameters_drprobe"].items()}
    text = json.dumps({"convention": "drprobe", "parameters": known})
    (out / "imaging.json").write_text(text, encoding="utf-8")
    rows, cols = content["noisy"].shape
    vacuum = min(roi["origin_px"][0] for roi in truth["rois"])
    return [
        f"data.image={out / 'field.npy'}",
        "data.sampling_nm=0.00887",
        f"data.mtf={bto / 'MTF-US2k-300.mtf'}",
        "data.mtf_scale=1.068",
        "data.roi_shape=[45,64]",
        f"data.rois={[roi['origin_px'] for roi in truth['rois']]}".replace(" ", ""),
        f"data.vacuum=[0,0,{min(vacuum, rows) - 5},{cols}]",
        f"specimen.structure={bto / 'BTO110.cel'}",
        "microscope.aberration_convention=drprobe",
        f"imaging.result={out / 'imaging.json'}",
        "overwrite=true",
    ]


def run(stage: str, options: list[str], way: list[str], folder: Path) -> dict:
    """The result of a stage, run as a user runs it."""
    command = [sys.executable, "-m", "experiments.run", stage, *options, *way]
    subprocess.run([*command, f"hydra.run.dir={folder}"], check=True, capture_output=True)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--field", type=Path, required=True)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--stage", default="reconstruct")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    out = options.out.resolve()
    given = prepared(options.field.resolve(), options.bto.resolve(), out)
    ways = {f"cores={n}": [f"cores={n}"] for n in options.cores}
    most = options.cores[-1]
    ways["engine=local"] = ["engine=local", f"engine.workers={most}", f"cores={most}"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    numbers = {}
    for repeat in range(options.repeats + 1):
        for name, way in ways.items():
            found = run(options.stage, given, way, out / name.replace("=", ""))
            numbers[name] = [[entry["n"] for entry in roi["counts"]] for roi in found["rois"]]
            if repeat:
                seconds[name].append(found["cost"]["wall_s"])
    first = next(iter(seconds.values()))
    rows = {
        name: {
            "seconds": statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(first, times, strict=True)),
            "same_numbers": numbers[name] == next(iter(numbers.values())),
        }
        for name, times in seconds.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['seconds']:.1f} s, {row['ratio']:.2f} times as fast", row)
    if options.result is not None:
        content = {"versions": versions(), "stage": options.stage, "ways": rows}
        options.result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
