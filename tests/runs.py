"""Stages as tests run them: without a pipeline around them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.inputs.example import with_example
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.journal import Journal, Progress
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.stages import STAGES, RunSettings, run_settings


def prepared(settings: RunSettings) -> Any:
    """The problem of a stage."""
    return STAGES[settings.stage].prepare(settings, Reader())


def computed(
    problem: Any,
    folder: RunFolder | Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(content of result.json, arrays) of a problem."""
    if isinstance(folder, Path):
        folder = RunFolder(folder)
    result = STAGES[problem.settings.stage].run(problem, Journal(folder, report))
    if result.structures:
        folder.write_structures(result.structures)
    return result.to_json(), result.arrays


def example_settings(content: dict[str, Any], *given: str) -> RunSettings:
    """Settings with the embedded example; of the groups in `content`, what they hold is `given`."""
    named = {f"{g}.{k}" for g, v in content.items() if isinstance(v, dict) for k in v}
    return run_settings(with_example(content, named | set(given))[0])


class Quiet:
    """A terminal that shows nothing; `said`: what was said to it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    def __call__(self, now: Progress) -> None:
        pass
