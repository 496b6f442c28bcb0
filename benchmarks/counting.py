"""Numbers of atoms on Dr. Probe's images over fresh noise: how many are exact, how honest.

    python -m benchmarks.counting --reference DIR --bto DIR --out RUNS [--draws 10] [--result JSON]
                                  [--scaling 8 32 100]

The `columns` experiments (random surfaces, imaging parameters known) and the BaTiO3 folder are not
part of the repository. Each experiment's clean image gets `draws - 1` fresh draws of camera-like
noise beside its own; all of them are regions of one image, counted by one command, once in the
physical mode and once with Dr. Probe's frame and truncations. `--scaling` instead takes the time
with so many regions, after a first run that compiles, and adds it to the JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import convolve1d

from benchmarks.versions import versions
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.parameters import INDEX, NAMES
from tests import drprobe, truth

VARIANCE, KERNEL = 1.8e-4, (0.29, 1.0, 0.29)  # correlated as Dr. Probe's noisy images are
SLICES = 20
"""Thickness that is handed over; the stage finds its own."""


def noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Camera-like noise: white noise smoothed along both axes."""
    kernel = np.array(KERNEL) / np.linalg.norm(KERNEL)
    smooth = rng.standard_normal(shape)
    for axis in (0, 1):
        smooth = convolve1d(smooth, kernel, axis=axis, mode="wrap")
    return VARIANCE**0.5 * smooth


def count(
    experiments: dict[str, np.ndarray], index: int, draws: int, bto: Path, out: Path, mode: str
) -> dict:
    """The result of one experiment's draws, each a region."""
    rng = np.random.default_rng(index)
    clean = experiments["columns_clean"][index]
    drawn = [clean + noise(clean.shape, rng) for _ in range(draws - 1)]
    images = [experiments["columns_noisy"][index], *drawn]
    # columns of ten: a lattice that goes on would leave the pixels behind in longer ones
    tall = min(draws, 10)
    images += [np.ones_like(clean)] * (-draws % tall)
    folder = out / f"{mode}{index}"
    folder.mkdir(parents=True, exist_ok=True)
    stacks = [np.concatenate(images[k : k + tall]) for k in range(0, len(images), tall)]
    np.save(folder / "image.npy", np.concatenate(stacks, axis=1).astype(np.float32))
    vector = drprobe.vector_of_record(str(experiments["columns_truth"][index]))
    vector[INDEX["thickness"]] = SLICES
    known = {"parameters": {n: {"value": float(vector[INDEX[n]])} for n in NAMES}}
    (folder / "imaging.json").write_text(json.dumps(known), encoding="utf-8")
    rows, cols = clean.shape
    origins = [[rows * (k % tall), cols * (k // tall)] for k in range(draws)]
    options = [
        "+stage=reconstruct",
        f"data.image={folder / 'image.npy'}",
        "data.sampling_nm=0.00887",
        f"data.mtf={bto / 'MTF-US2k-300.mtf'}",
        "data.mtf_scale=1.068",
        f"data.roi_shape=[{rows},{cols}]",
        f"data.rois={origins}".replace(" ", ""),
        f"data.noise_variance={VARIANCE}",
        "data.noise_correlation=[0.51,0.08]",
        f"specimen.structure={bto / 'BTO110.cel'}",
        "microscope.aberration_convention=drprobe",
        f"microscope.compatibility={mode}",
        f"imaging.result={folder / 'imaging.json'}",
        "reconstruct.surface_rule=false",
        "overwrite=true",
        f"hydra.run.dir={folder / 'run'}",
    ]
    subprocess.run([sys.executable, "-m", "experiments.run", *options], check=True)
    return json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))


def compare(rois: list[dict], true: np.ndarray) -> list[tuple[int, float, bool]]:
    """(error, probability of the truth, whether it was the first draw) of every number."""
    return [
        (entry["n"] - int(n), entry["probability"].get(str(int(n)), 0.0), k == 0)
        for k, roi in enumerate(rois)
        for entry, n in zip(roi["counts"], true, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--scaling", type=int, nargs="*", default=[], help="numbers of regions")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    experiments = dict(np.load(options.reference / "drprobe_experiments.npz"))
    bto, out = options.bto.resolve(), options.out.resolve()
    columns = columns_of(read_structure(bto / "BTO110.cel", 4))
    order = truth.chain_order(columns, experiments["column_order"])
    content: dict = {}
    if options.result is not None and options.result.is_file():
        content = json.loads(options.result.read_text(encoding="utf-8"))
    content["versions"] = versions()
    if options.scaling:
        content["seconds_of_regions"] = scaling(experiments, options.scaling, bto, out)
    else:
        content["columns"] = table(experiments, order, options.draws, bto, out)
    if options.result is not None:
        text = json.dumps(content, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


def table(
    experiments: dict[str, np.ndarray], order: np.ndarray, draws: int, bto: Path, out: Path
) -> dict[str, dict]:
    """Shares of exact numbers, and how honest the probabilities are, in both modes."""
    found = {}
    for mode in ("none", "drprobe"):
        entries = []
        for index, record in enumerate(experiments["columns_truth"]):
            true = np.zeros(len(order), dtype=int)
            true[order] = json.loads(str(record))["counts"]
            run = count(experiments, index, draws, bto, out, mode)
            entries += compare(run["rois"], true)
        error, probability, given = (np.array(column) for column in zip(*entries, strict=True))
        found[f"compatibility={mode}"] = {
            "numbers": len(error),
            "exact": float(np.mean(error == 0)),
            "exact_in_given_images": float(np.mean(error[given] == 0)),
            "within_1": float(np.mean(np.abs(error) <= 1)),
            "log_loss": float(np.mean(-np.log(np.maximum(probability, 1e-4)))),
        }
        print(mode, json.dumps(found[f"compatibility={mode}"]), flush=True)
    return found


def scaling(
    experiments: dict[str, np.ndarray], sizes: list[int], bto: Path, out: Path
) -> dict[str, float]:
    """Seconds of `+stage=reconstruct` by the number of regions."""
    seconds = {}
    for size in sizes:
        for _ in range(2):  # the second finds its programs in the compilation cache
            run = count(experiments, 0, size, bto, out / f"{size}regions", "none")
        seconds[str(size)] = float(run["cost"]["wall_s"])
        print(f"{size} regions: {seconds[str(size)]:.0f} s", flush=True)
    return seconds


if __name__ == "__main__":
    main()
