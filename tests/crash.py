"""Kills stages at random moments and resumes them: python -m tests.crash [--rounds 5] [STAGE ...].

A run that was killed, however often, must go on to the result of one that was not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np

from tests.wedge import FIXED

ROOT = Path(__file__).parents[1]
QUICK = (
    "optimizer.max_evaluations=48",
    "optimizer.training_points=48",
    "optimizer.starts=1",
    "optimizer.max_iterations=6",
    "specimen.max_cells=5",
    "specimen.grid=[36,54]",
    "specimen.grid_error=1e-3",
    "structure.rounds=1",
    "reconstruct.max_evaluations=16",
    "stitch.sweeps=1",
    *(f"parameters.{name}.free=false" for name in FIXED),
)
STAGES = ("simulate", "imaging", "structure", "reconstruct", "stitch", "pipeline")
LIMIT_SECONDS = 900


def arguments(stage: str, folder: Path, known: Path, *others: str) -> list[str]:
    """A quick run of a stage on the embedded example; `known`: its imaging parameters; `others`:
    further options."""
    more = [] if stage in ("simulate", "imaging") else [f"imaging.result={known}"]
    if stage != "simulate":
        more.append("microscope.aberration_convention=drprobe")
    else:
        more.append("data.roi_shape=[44,64]")
    command = [sys.executable, "-m", "experiments.run", f"+stage={stage}", *QUICK, *more, *others]
    return [*command, "resume=true", f"hydra.run.dir={folder}"]


def imaging_parameters(folder: Path) -> Path:
    """The example's true imaging parameters, as a file that hands them over."""
    example = resources.files("qhrtem_jax").joinpath("example", "truth.json")
    known = json.loads(example.read_text("utf-8"))["parameters"]
    path = folder / "imaging.json"
    path.write_text(json.dumps({"parameters": {k: {"value": v} for k, v in known.items()}}))
    return path


def finish(stage: str, folder: Path, known: Path) -> float:
    """Run to the end; seconds."""
    started = time.monotonic()
    command = arguments(stage, folder, known)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=LIMIT_SECONDS)
    return time.monotonic() - started


def kill_after(seconds: float, stage: str, folder: Path, known: Path) -> bool:
    """Start a run and kill it; whether it was still running."""
    process = subprocess.Popen(
        arguments(stage, folder, known),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    assert process.returncode == 0
    return False


def outcome(folder: Path) -> dict:
    """What must be the same: the result but for what it cost, and where its time went."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {k: v for k, v in result.items() if k not in ("cost", "checksum", "files")}


def differences(one, other, where: str = "") -> list[str]:
    """Where two results differ by more than rounding."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for k in one for d in differences(one[k], other[k], f"{where}.{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{where}[{k}]")]
    numbers = isinstance(one, float) and isinstance(other, float)
    if one == other or (numbers and np.isclose(one, other, rtol=1e-6, atol=1e-9)):
        return []
    return [f"{where}: {one} against {other}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=STAGES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=3, help="in each round")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        known = imaging_parameters(folder)
        for stage in options.stages:
            finish(stage, folder / f"{stage}-warm", known)  # compiles
            seconds = finish(stage, folder / f"{stage}-whole", known)
            expected, kills = outcome(folder / f"{stage}-whole"), 0
            for k in range(options.rounds):
                run = folder / f"{stage}-{k}"
                moments = rng.uniform(0.0, seconds, options.kills)
                kills += sum(kill_after(m, stage, run, known) for m in moments)
                finish(stage, run, known)
                found = differences(expected, outcome(run))
                faults += len(found) > 0
                for line in found[:5]:
                    print(f"{stage}, round {k}: {line}")
            print(f"{stage}: {options.rounds} rounds, {kills} kills, {seconds:.0f} s a run")
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
