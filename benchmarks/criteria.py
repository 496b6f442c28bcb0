"""Imaging under each criterion: a real mean image, and two experiments with known truth.

    python -m benchmarks.references.make_experiments --out runs/experiments.npz --count 2
    python -m benchmarks.criteria --bto DIR --experiments runs/experiments.npz [--result JSON]

Default options but for `objective.criterion`. Prints a table: of the real image mean squared error,
normalised cross-correlation and thickness of what was found; of the experiments, mean squared error
over the noise's variance, how many slices the thickness is off, and how far the parameters are (the
median, in parts of their bounds).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.basins import fitted
from benchmarks.imaging import overrides, run
from benchmarks.versions import versions
from qhrtem_jax.matching.criteria import CRITERIA


def line(criterion: str, real: dict[str, Any], known: list[dict[str, Any]]) -> str:
    """A row of the table."""
    columns = [
        criterion,
        f"{real['mse']:.6f}",
        f"{100 * real['ncc']:.2f}",
        f"{real['thickness']:.0f}",
        *(
            f"{row['mse_over_noise']:.2f}, {row['found'] - row['truth']:+.0f}, {row['off']:.4f}"
            for row in known
        ),
    ]
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bto", type=Path, required=True)
    parser.add_argument("--experiments", type=Path, required=True)
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    count = min(2, len(np.load(options.experiments)["images"]))
    rows: dict[str, Any] = {}
    for criterion in CRITERIA:
        more = {"objective": {"criterion": criterion}}
        with tempfile.TemporaryDirectory() as scratch:
            arguments = [*overrides(options.bto), f"objective.criterion={criterion}"]
            real = run(arguments, Path(scratch) / "run", Path(scratch) / "cache")
        known = [fitted((str(options.experiments), k, more)) for k in range(count)]
        rows[criterion] = {"averaged_roi": real, "experiments": known}
        print(line(criterion, real, known), flush=True)
    if options.result is not None:
        content = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "criteria": rows}
        options.result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
