"""The pipeline on a synthetic field with known truth.

    python -m benchmarks.field --field synthetic_field.npz --bto FOLDER --out RUNS [--result JSON]

The field (a wedge simulated by another program) and the BaTiO3 folder are not part of the
repository. Runs the pipeline from the noisy image alone and prints how much of the truth it finds.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.versions import versions


def pipeline(options: list[str], folder: Path) -> dict:
    """The result of the pipeline with some settings, run in `folder`."""
    command = [sys.executable, "-m", "experiments.run", "+stage=pipeline", *options]
    subprocess.run([*command, f"hydra.run.dir={folder}"], check=True)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def run(field: Path, index: int, bto: Path, out: Path) -> dict:
    """Run the pipeline and return its result."""
    out.mkdir(parents=True, exist_ok=True)
    image = out / f"field{index}.npy"
    np.save(image, np.load(field)["noisy"][index])
    options = [
        f"data.image={image}",
        "data.sampling_nm=0.00887",
        f"data.mtf={bto / 'MTF-US2k-300.mtf'}",
        "data.mtf_scale=1.068",
        "data.roi_shape=[45,64]",
        "data.vacuum=[0,0,40,256]",
        f"specimen.structure={bto / 'BTO110.cel'}",
        "microscope.aberration_convention=drprobe",
        "overwrite=true",
    ]
    return pipeline(options, out / f"run{index}")


def claims(result: dict, truth: dict) -> list[tuple[float, bool]]:
    """Of each number of atoms: the probability that it is claimed with, and whether it is right."""
    return [
        (entry["probability"].get(str(entry["n"]), 0.0), entry["n"] == n)
        for found, true in _pairs(result, truth)
        for entry, n in zip(found["counts"], _numbers(found, true, truth), strict=True)
    ]


def _pairs(result: dict, truth: dict) -> list[tuple[dict, dict]]:
    """(region found, its truth)."""
    rois = {tuple(roi["origin_px"]): roi for roi in truth["rois"]}
    return [(found, rois[tuple(found["origin_px"])]) for found in result["rois"]]


def _numbers(found: dict, true: dict, truth: dict) -> list[int]:
    """True numbers of atoms, in the order of those found."""
    names = [label.split() for label in truth["column_order"]]
    numbers = []
    for entry in found["counts"]:
        (k,) = (
            k
            for k, (symbol, x, y) in enumerate(names)
            if symbol == entry["species"]
            and np.hypot(float(x) - entry["x"], float(y) - entry["y"]) < 1e-3
        )
        numbers.append(true["counts"][k])
    return numbers


def _columns_of(species: str, truth: dict) -> list[int]:
    """Which positions of the truth are columns of one species alone."""
    names = [label.split() for label in truth["column_order"]]
    return [
        k
        for k, place in enumerate(truth["position_order"])
        if {s for s, x, y in names if [float(x), float(y)] == list(place)} == {species}
    ]


def compare(result: dict, truth: dict) -> dict:
    """Share of exact numbers and of those within 1, height and displacement errors, log loss."""
    wrong, loss, heights, polar = [], [], [], []
    cations, anions = _columns_of("Ti", truth), _columns_of("O", truth)
    for found, true in _pairs(result, truth):
        for entry, n in zip(found["counts"], _numbers(found, true, truth), strict=True):
            wrong.append(abs(entry["n"] - n))
            loss.append(-np.log(max(entry["probability"].get(str(n), 0.0), 1e-4)))
        heights.append((found["parameters"]["C1"]["value"] - true["C1_roi"]) / truth["slice_nm"])
        places = np.array(truth["position_order"])
        shifts = np.array(true["shift_pm"])
        ours = {(round(c["x"], 3), round(c["y"], 3)): c for c in found["columns"]}
        moved = np.array([[ours[tuple(p)][k] for k in ("dx_pm", "dy_pm")] for p in places])
        off = moved - shifts
        polar.append(off[cations].mean(axis=0) - off[anions].mean(axis=0))
    return {
        "exact": float(np.mean(np.array(wrong) == 0)),
        "within_1": float(np.mean(np.array(wrong) <= 1)),
        "log_loss": float(np.mean(loss)),
        "height_rms_slices": float(np.std(heights)),
        "ti_o_rms_pm": [float(v) for v in np.sqrt(np.mean(np.square(polar), axis=0))],
        "mse": result["field"]["fit_refined"]["mse"],
        "noise_variance": result["noise"]["variance"],
        "ncc": result["field"]["fit_refined"]["ncc"],
        "wall_s": result["cost"]["wall_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--field", type=Path, required=True)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    content = np.load(options.field)
    found = []
    for index, truth in enumerate(content["truth"]):
        result = run(options.field.resolve(), index, options.bto.resolve(), options.out.resolve())
        found.append(compare(result, json.loads(str(truth))))
        print(json.dumps(found[-1]), flush=True)
    if options.result is not None:
        text = json.dumps({"versions": versions(), "fields": found}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
