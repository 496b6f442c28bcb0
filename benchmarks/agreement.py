"""Do runs that began otherwise find the same numbers of atoms? The pipeline on one real field.

    python -m benchmarks.agreement --bto FOLDER --out RUNS [--only 0 1] [--result JSON]

Six runs on `field_roi1-8.dat` of the BaTiO3 folder (not part of the repository), with imaging
parameters from other means of regions, the noise from other parts of the vacuum, and other seeds.
Prints, of each pair of runs, the share of equal numbers, and of those that both call surer than
95 %. Runs that are done are not repeated: use a new folder for other options or another version.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from benchmarks.field import pipeline
from benchmarks.versions import versions

ROIS = [[row, col] for col in (0, 64) for row in (45, 90, 135, 180)]

BEGINNINGS = (
    ("auto", [0, 0, 30, 128]),
    ([[90, 0], [90, 64]], [0, 0, 30, 64]),
    ([[135, 0], [135, 64]], [0, 64, 30, 64]),
    ([[90, 64], [135, 64]], [0, 0, 24, 128]),
    ([[180, 0], [135, 0]], [6, 0, 24, 128]),
    ([[45, 0], [45, 64]], [0, 32, 30, 64]),
)
"""(which regions are averaged for the imaging parameters, the part of the vacuum)."""

SURE = 0.95


def run(bto: Path, index: int, out: Path, options: list[str]) -> dict:
    """The pipeline's result from one beginning; its seed is its number."""
    folder = out / f"run{index}"
    if (folder / "result.json").is_file():
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    average, vacuum = BEGINNINGS[index]
    command = [
        f"data.image={bto / 'field_roi1-8.dat'}",
        "data.shape=[270,128]",
        "data.sampling_nm=0.00887",
        f"data.mtf={bto / 'MTF-US2k-300.mtf'}",
        "data.mtf_scale=1.068",
        "data.roi_shape=[45,64]",
        f"data.rois={ROIS}",
        f"data.average={average}",
        f"data.vacuum={vacuum}",
        f"specimen.structure={bto / 'BTO110.cel'}",
        f"seed={index}",
        "overwrite=true",
        *options,
    ]
    return pipeline([text.replace(" ", "") for text in command], folder)


def numbers(result: dict) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of atoms of all regions, the probability that each is claimed with)."""
    entries = [entry for roi in result["rois"] for entry in roi["counts"]]
    return (
        np.array([entry["n"] for entry in entries]),
        np.array([entry["probability"].get(str(entry["n"]), 0.0) for entry in entries]),
    )


def agreement(one: dict, other: dict) -> dict:
    """How many numbers two runs have in common."""
    (n, p), (m, q) = numbers(one), numbers(other)
    sure = (p > SURE) & (q > SURE)
    return {
        "equal": int(np.sum(n == m)),
        "of": len(n),
        "both_sure": int(sure.sum()),
        "equal_where_sure": int(np.sum((n == m) & sure)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", type=int, nargs="*", help="some of the runs")
    parser.add_argument("--option", nargs="*", default=[], help="further settings of the runs")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    chosen = options.only or range(len(BEGINNINGS))
    out = options.out.resolve()
    results = {k: run(options.bto.resolve(), k, out, options.option) for k in chosen}
    for k, result in results.items():
        fit = result["field"]["fit_refined"]
        sure = numbers(result)[1] > SURE
        print(f"run {k}: NCC {100 * fit['ncc']:.2f} %, {sure.sum()} of {sure.size} numbers sure")
    if len(results) < 2:
        return
    pairs = {
        f"{k} {j}": agreement(results[k], results[j]) for k, j in itertools.combinations(results, 2)
    }
    for names, found in pairs.items():
        print(names, json.dumps(found))
    total = {key: sum(found[key] for found in pairs.values()) for key in next(iter(pairs.values()))}
    print(
        f"all pairs: {100 * total['equal'] / total['of']:.1f} % equal, "
        f"{100 * total['equal_where_sure'] / max(total['both_sure'], 1):.1f} % of the "
        f"{total['both_sure']} that both call surer than {100 * SURE:g} %"
    )
    if options.result is not None:
        text = json.dumps({"versions": versions(), "pairs": pairs, "all": total}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
