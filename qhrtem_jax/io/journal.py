"""What a stage of several steps notes while it runs: history, progress, cost."""

import time
from collections.abc import Callable
from typing import Any

from qhrtem_jax.imaging.search import Progress
from qhrtem_jax.io.cost import Stopwatch
from qhrtem_jax.io.run_folder import RunFolder


class Journal:
    """Counts propagations and Jacobians, and writes history.csv."""

    def __init__(self, folder: RunFolder, report: Callable[[Progress], None]) -> None:
        self.folder, self.report = folder, report
        self.stopwatch = Stopwatch()
        self.evaluations = self.gradient_evaluations = 0
        self.best = float("inf")
        self.rows: list[list[Any]] = []
        self._started = time.perf_counter()

    def add(self, *, evaluations: int = 0, gradients: int = 0) -> None:
        """Count propagations and Jacobians (or gradients)."""
        self.evaluations += evaluations
        self.gradient_evaluations += gradients

    def note(self, phase: str, mse: float | None = None) -> None:
        """Note a step; `mse` is the best mean squared error after it, where it is known."""
        if mse is not None:
            self.best = mse
        seconds = round(time.perf_counter() - self._started, 3)
        self.rows.append([len(self.rows), self.evaluations, seconds, self.best])
        header = ["iteration", "evaluations", "seconds", "best_mse"]
        self.folder.write_history(header, self.rows)
        self.report(Progress(phase, self.evaluations, 0, seconds, self.best))

    def tick(self, phase: str) -> Callable[[int, int], None]:
        """Reports how many regions a long step has done; no line of the history."""

        def report(done: int, regions: int) -> None:
            seconds = round(time.perf_counter() - self._started, 3)
            part = f"{done} of {regions} regions"
            self.report(Progress(phase, self.evaluations, 0, seconds, self.best, part=part))

        return report

    def cost(self) -> dict[str, Any]:
        """The `cost` of a result."""
        self.stopwatch.stop()
        return {
            "evaluations": int(self.evaluations),
            "gradient_evaluations": int(self.gradient_evaluations),
            "wall_s": self.stopwatch.wall_s,
            "compile_s": self.stopwatch.compile_s,
        }
