"""Can probabilities of numbers of atoms be believed? The pipeline on wedges with known truth.

    python -m benchmarks.references.make_wedges --out runs/wedges.npz
    python -m benchmarks.wedges --wedges runs/wedges.npz --out RUNS [--only 0 1]
        [--result JSON] [--figure PNG]

Another program simulated the wedges; of some, the model that fits them knows too little. Each is
counted from its noisy image alone, with the cell, the camera and the camera's noise that come with
it. Prints, of each wedge and of both kinds, the share of exact numbers, the mean log loss of the
probabilities, and what was claimed of numbers that are wrong; writes how often numbers were right,
by the probability that they were claimed with. Runs that are done are not repeated: use a new
folder for other options or another version.
"""

import argparse
import itertools
import json
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.field import claims, compare, pipeline
from benchmarks.problems import write_specimen
from benchmarks.versions import versions

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EDGES = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Claimed probabilities are looked at in these classes."""


def run(content: np.lib.npyio.NpzFile, index: int, out: Path, options: list[str]) -> dict:
    """The pipeline's result for one wedge."""
    folder = out / f"wedge{index}"
    if not (folder / "result.json").is_file():
        cell, camera = write_specimen(out, content)
        image = out / f"wedge{index}.npy"
        np.save(image, content["noisy"][index])
        variance = json.loads(str(content["truth"][index]))["noise_variance"]
        command = [
            f"data.image={image}",
            f"data.sampling_nm={float(content['sampling_nm'])}",
            f"data.mtf={camera}",
            "data.roi_shape=[45,64]",
            f"data.noise_variance={variance}",
            f"data.noise_correlation={content['noise_correlation'].tolist()}",
            f"specimen.structure={cell}",
            "specimen.scattering=lobato",
            "microscope.aberration_convention=drprobe",
            *options,
        ]
        pipeline(command, folder)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def reliability(found: list[tuple[float, bool]]) -> list[dict]:
    """Of the numbers claimed within each class: how many, the mean claim, the share that is right,
    and how far that may be off by chance: one standard deviation if the claims are true and numbers
    independent, which those of one wedge are not quite."""
    claimed, right = (np.array(values, dtype=float) for values in zip(*found, strict=True))
    classes = []
    for low, high in itertools.pairwise(EDGES):
        mine = ((claimed > low) | (low == 0.0)) & (claimed <= high)
        if not mine.any():
            continue
        spread = np.sqrt(np.sum(claimed[mine] * (1.0 - claimed[mine]))) / mine.sum()
        classes.append(
            {
                "from": low,
                "to": high,
                "numbers": int(mine.sum()),
                "claimed": float(claimed[mine].mean()),
                "right": float(right[mine].mean()),
                "by_chance": float(spread),
            }
        )
    return classes


def draw(kinds: dict[str, list[dict]], path: Path) -> None:
    """The reliability diagram."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
    axes.plot((0.0, 1.0), (0.0, 1.0), color="0.7", linewidth=1.0)
    for (kind, classes), side in zip(kinds.items(), (-1, 1), strict=False):
        shift = 0.006 * side
        claimed = np.array([c["claimed"] for c in classes])
        axes.errorbar(
            claimed + shift,
            [c["right"] for c in classes],
            [2.0 * c["by_chance"] for c in classes],
            fmt="o",
            capsize=2.0,
            label=f"{kind} ({sum(c['numbers'] for c in classes)} numbers)",
        )
        for c, x in zip(classes, claimed + shift, strict=True):
            axes.annotate(
                str(c["numbers"]),
                (x, c["right"]),
                xytext=(5 * side, 6 * side - 3),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
            )
    axes.set(xlim=(-0.02, 1.12), ylim=(-0.02, 1.12))
    axes.set(xlabel="claimed probability", ylabel="share that is right (bars: 2 sigma by chance)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wedges", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", type=int, nargs="*", help="some of the wedges")
    parser.add_argument("--option", nargs="*", default=[], help="further settings of the runs")
    parser.add_argument("--result", type=Path, help="JSON to write")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    options = parser.parse_args()
    content = np.load(options.wedges)
    table, claimed = [], {}
    for index in options.only or range(len(content["noisy"])):
        truth = json.loads(str(content["truth"][index]))
        result = run(content, index, options.out.resolve(), options.option)
        entry = {"kind": truth["kind"], **compare(result, truth)}
        stated = claims(result, truth)
        entry["wrong"] = [round(p, 4) for p, right in stated if not right]
        table.append(entry)
        claimed.setdefault(
            "as modelled" if truth["kind"] == "as modelled" else "otherwise", []
        ).extend(stated)
        print(json.dumps(entry), flush=True)
    kinds = {kind: reliability(stated) for kind, stated in claimed.items()}
    for kind, classes in kinds.items():
        mine = [e for e in table if (e["kind"] == "as modelled") == (kind == "as modelled")]
        print(f"{kind}: mean log loss {np.mean([e['log_loss'] for e in mine]):.4f}")
        for c in classes:
            print(
                f"  claimed {c['from']} to {c['to']}: {c['numbers']} numbers, mean claim "
                f"{c['claimed']:.3f}, right {c['right']:.3f} +- {c['by_chance']:.3f}"
            )
    if options.result is not None:
        text = json.dumps({"versions": versions(), "wedges": table, "reliability": kinds}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")
    if options.figure is not None:
        draw(kinds, options.figure)


if __name__ == "__main__":
    main()
