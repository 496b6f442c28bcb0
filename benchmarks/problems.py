"""Objectives for optimizer benchmarks: test functions with the optimum moved, and a real image."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Objective = Callable[[np.ndarray], np.ndarray]
"""Maps (n, d) points of the unit cube to (n,) values; smaller is better."""


def ackley(z: np.ndarray) -> np.ndarray:
    root = np.exp(-0.2 * np.sqrt(np.mean(z**2, axis=1)))
    return -20.0 * root - np.exp(np.mean(np.cos(2.0 * np.pi * z), axis=1)) + 20.0 + np.e


def rosenbrock(z: np.ndarray) -> np.ndarray:
    return np.sum(100.0 * (z[:, 1:] - z[:, :-1] ** 2) ** 2 + (1.0 - z[:, :-1]) ** 2, axis=1)


def levy(z: np.ndarray) -> np.ndarray:
    w = 1.0 + (z - 1.0) / 4.0
    middle = (w[:, :-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:, :-1] + 1.0) ** 2)
    last = (w[:, -1] - 1.0) ** 2 * (1.0 + np.sin(2.0 * np.pi * w[:, -1]) ** 2)
    return np.sin(np.pi * w[:, 0]) ** 2 + np.sum(middle, axis=1) + last


@dataclasses.dataclass(frozen=True)
class TestFunction:
    function: Objective
    low: float
    high: float
    optimum: float


TEST_FUNCTIONS = {
    "ackley": TestFunction(ackley, -5.0, 10.0, 0.0),
    "rosenbrock": TestFunction(rosenbrock, -5.0, 10.0, 1.0),
    "levy": TestFunction(levy, -10.0, 10.0, 1.0),
}


def moved(name: str, d: int, seed: int) -> Objective:
    """A test function in d dimensions whose optimum lies at a random place of the unit cube.

    Many optimizers are drawn to the centre or to simple fractions of the cube; a random optimum
    within its middle 80 % is fair to all.
    """
    known = TEST_FUNCTIONS[name]
    place = np.random.default_rng(1000 + seed).uniform(0.1, 0.9, d)
    width = known.high - known.low
    return lambda u: known.function(known.optimum + width * (np.asarray(u) - place))


def write_specimen(folder: Path, known: Mapping[str, Any]) -> tuple[Path, Path]:
    """(cell, MTF of the camera): the files that come with synthetic experiments."""
    folder.mkdir(parents=True, exist_ok=True)
    cell, camera = folder / "cell.cel", folder / "camera.mtf"
    cell.write_text(str(known["cel"]), encoding="utf-8")
    lines = [str(len(known["mtf"])), *(f"{value:.10f}" for value in known["mtf"])]
    camera.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return cell, camera


def bto_overrides(folder: Path) -> dict:
    """Settings of the averaged region of interest of BaTiO3 [110], as the paper's step 1."""
    return {
        "data": {
            "image": str(folder / "averaged_roi.dat"),
            "shape": [45, 64],
            "sampling_nm": 0.00887,
            "mtf": str(folder / "MTF-US2k-300.mtf"),
            "mtf_scale": 1.068,
            "noise_variance": 6e-5,  # 1.8e-4 in one region, three of them averaged
            "noise_correlation": [0.63, 0.30],
        },
        "specimen": {"structure": str(folder / "BTO110.cel")},
    }


def bto_evaluator(folder: Path, profile: tuple[str, ...]):
    """(number of variables, evaluator of the unit cube) of the averaged BaTiO3 image.

    The evaluator gives (objective, residuals, mse, vectors); see `imaging.evaluator.Evaluator`.
    """
    import jax.numpy as jnp

    from qhrtem_jax.imaging.evaluator import make_evaluator
    from qhrtem_jax.imaging.problem import prepare
    from qhrtem_jax.inputs.reader import Reader
    from qhrtem_jax.matching.objective import make_objective
    from qhrtem_jax.stages import run_settings

    settings = run_settings(
        {"stage": "imaging", "optimizer": {"profile": list(profile)}, **bto_overrides(folder)}
    )
    task = prepare(settings, Reader())
    simulator, _ = task.simulator()
    objective = make_objective(
        simulator,
        jnp.asarray(task.experiment.image, simulator.dtype),
        thickness_range=task.space.thickness_range,
        profile=profile,
    )
    evaluator = make_evaluator(objective, task.space, 1e-3)
    return len(task.space.space), evaluator
