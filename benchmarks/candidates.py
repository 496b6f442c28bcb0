"""Which structure: images of cubic and tetragonal BaTiO3, each fitted with both.

    python -m benchmarks.references.make_candidates --out runs/candidates.npz
    python -m benchmarks.candidates --images runs/candidates.npz --out RUNS [--result JSON]

Another program simulated the images. Prints, of each, the probability of the true structure; then
how many are right, the mean log loss, and how many wrong ones were given 95 % and more. Runs that
are done are not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import write_specimen
from benchmarks.versions import versions

SURE = 0.95
NAMES = ("cubic", "tetragonal")


def run(content: Any, index: int, out: Path, options: list[str]) -> dict[str, Any]:
    """The result for one image."""
    folder = out / f"image{index}"
    if not (folder / "result.json").is_file():
        cells = []
        for number, text in enumerate(content["cels"]):
            known = {"cel": text, "mtf": content["mtf"]}
            cell, camera = write_specimen(out, known)
            cells.append(str(cell.rename(out / f"{NAMES[number]}.cel")))
        np.save(out / f"image{index}.npy", content["images"][index])
        command = [
            *(sys.executable, "-m", "experiments.run", "+stage=structure", "overwrite=true"),
            f"data.image={out / f'image{index}.npy'}",
            f"data.sampling_nm={float(content['sampling_nm'])}",
            f"data.mtf={camera}",
            f"data.noise_variance={float(content['noise_variance'])}",
            f"data.noise_correlation={content['noise_correlation'].tolist()}",
            f"specimen.candidates={json.dumps(cells)}",
            "specimen.slices=4",
            "specimen.scattering=lobato",
            "microscope.aberration_convention=drprobe",
            *options,
            f"hydra.run.dir={folder}",
        ]
        subprocess.run(command, check=True)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", type=int, nargs="*", help="some of the images")
    parser.add_argument("--options", nargs="*", default=[], help="more options of the runs")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    content, found = np.load(options.images), []
    for index in options.only or range(len(content["images"])):
        truth = json.loads(str(content["truth"][index]))
        candidates = run(content, index, out, options.options)["candidates"]
        right = candidates[truth["candidate"]]
        found.append(
            {
                "truth": truth["candidate"],
                "thickness": [truth["thickness"], right["thickness"]],
                "probability": right["probability"],
                "candidates": candidates,
            }
        )
        print(index, json.dumps(found[-1]), flush=True)
    p = np.array([one["probability"] for one in found])
    total = {
        "images": len(p),
        "right": int(np.sum(p > 0.5)),
        "mean_probability": float(np.mean(p)),
        "log_loss": float(np.mean(-np.log(np.maximum(p, 1e-12)))),
        "wrong_but_sure": int(np.sum(1.0 - p >= SURE)),
    }
    print(json.dumps(total))
    if options.result is not None:
        text = json.dumps({"versions": versions(), "total": total, "images": found}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
