"""How soon a minority phase is found: workflows, kernels, acquisitions (Creange et al., Fig. 7, 8).

    python -m benchmarks.references.make_phases --out phases.npz
    python -m benchmarks.exploration --phases phases.npz --structure BaTiO3.cif --out RUNS
        [--result JSON]

Each workflow makes its map of each image once; then every acquisition with every kernel, and with a
cost of the way, explores it. Printed, as means over the images: points after which 90 % of the
phase lie in windows of points, the share after all points, SSIM, the way; and, of places at random,
how many find 90 %.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from benchmarks.versions import versions
from qhrtem_jax.bayesopt.candidates import UTILITIES
from qhrtem_jax.bayesopt.kernels import KERNELS
from qhrtem_jax.exploration.problem import ExplorationProblem, prepare
from qhrtem_jax.exploration.run import explored, share_found
from qhrtem_jax.exploration.settings import ATOMS_RVAE, WORKFLOWS
from qhrtem_jax.exploration.target import make_target
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.numerics.devices import share_cores
from qhrtem_jax.stages import run_settings

MOST, ENOUGH = 0.9, 200
COST = 2.0
RANDOM = 50


def problem_of(workflow: str, name: str, phases: dict, structure: Path, out: Path):
    """The problem of one image."""
    np.save(out / f"{name}.npy", phases[name])
    np.save(out / f"{name}_mask.npy", phases[f"{name}_mask"])
    content = {
        "stage": "explore",
        "data": {"image": str(out / f"{name}.npy"), "sampling_nm": 0.02},
        "explore": {
            "workflow": workflow,
            "truth": str(out / f"{name}_mask.npy"),
            "points": ENOUGH,
        },
    }
    if workflow == ATOMS_RVAE:
        directions = {"zone": [1, 1, 0], "up": [0, 0, 1]}
        content["specimen"] = {"structure": str(structure), **directions}
    return prepare(run_settings(content), Reader())


def at_random(problem: ExplorationProblem) -> int:
    """Points at random that find 90 %, the median of many orders."""
    assert problem.truth is not None
    rng, needed = np.random.default_rng(0), []
    for _ in range(RANDOM):
        order = rng.permutation(len(problem.windows.centres))
        counts = range(5, len(order), 5)
        needed.append(
            next(
                n for n in counts if share_found(problem.truth, problem.windows, order[:n]) >= MOST
            )
        )
    return int(np.median(needed))


def tried(problem: ExplorationProblem, wanted: np.ndarray, journal: Journal, **chosen) -> dict:
    """What one way to explore comes to."""
    options = dataclasses.replace(problem.settings.explore, **chosen)
    settings = dataclasses.replace(problem.settings, explore=options)
    found = explored(dataclasses.replace(problem, settings=settings), wanted, journal)
    last = found.steps[-1]
    needed = [step.points for step in found.steps if (step.found or 0.0) >= MOST]
    return {
        **chosen,
        "points_to_90": needed[0] if needed else None,
        "found": last.found,
        "ssim": last.ssim,
        "uncertainty": last.uncertainty,
        "way_px": last.way_px,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phases", type=Path, required=True)
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--workflows", nargs="*", default=list(WORKFLOWS))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    share_cores("auto")
    options.out.mkdir(parents=True, exist_ok=True)
    phases = dict(np.load(options.phases))
    rows = []
    for workflow in options.workflows:
        for name in (n for n in phases if not n.endswith("_mask")):
            problem = problem_of(workflow, name, phases, options.structure, options.out)
            journal = Journal(RunFolder(options.out / f"{workflow}_{name}"), lambda progress: None)
            target = make_target(problem, journal)
            ways = [
                {"acquisition": a, "kernel": k, "path_cost": 0.0}
                for a in UTILITIES
                for k in KERNELS
            ]
            ways += [{"acquisition": a, "kernel": "matern52", "path_cost": COST} for a in UTILITIES]
            common = {"workflow": workflow, "image": name, "random_to_90": at_random(problem)}
            for way in ways:
                rows.append(common | tried(problem, target.chosen.map, journal, **way))
                print(rows[-1], flush=True)
    print("| workflow | acquisition | kernel | cost | to 90 % (at random) | found | SSIM | way |")
    print("|---|---|---|---|---|---|---|---|")
    keys = ("workflow", "acquisition", "kernel", "path_cost")
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        mine = [row for row in rows if tuple(row[k] for k in keys) == key]
        needed = [row["points_to_90"] or np.inf for row in mine]
        random = np.mean([row["random_to_90"] for row in mine])
        found, ssim, way = (np.mean([r[k] for r in mine]) for k in ("found", "ssim", "way_px"))
        shown = f"{max(needed):.0f} at most, {np.mean(needed):.0f} ({random:.0f})"
        print(f"| {' | '.join(map(str, key))} | {shown} | {found:.3f} | {ssim:.2f} | {way:.0f} |")
    if options.result is not None:
        text = json.dumps({"versions": versions(), "rows": rows}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
