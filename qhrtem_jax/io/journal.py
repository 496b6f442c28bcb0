"""What a stage has at hand while it runs: where it notes history, progress and cost, and who
computes."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from qhrtem_jax.engines import IN_PROCESS, Engine
from qhrtem_jax.io.cost import Cost, Stopwatch
from qhrtem_jax.io.run_folder import RunFolder

Picture = tuple[Float[np.ndarray, "*regions rows cols"], Float[np.ndarray, "*regions rows cols"]]
"""Experiment and simulation."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a search stands; `picture` computes the best fit so far, where it is asked for;
    `share` of the phase that is done, where that is known; since it was first reported, at `since`
    seconds, it has grown from `shared`."""

    phase: str
    evaluations: int
    budget: int
    seconds: float
    best_mse: float
    length: float | None = None
    part: str = ""  # of the phase, where it has parts
    picture: Callable[[], Picture] | None = None
    share: float | None = None
    since: float = 0.0
    shared: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the phase is done, at its pace; None where that is not known."""
        if self.share is None or not self.shared < self.share < 1.0:
            return None
        return (self.seconds - self.since) * (1.0 - self.share) / (self.share - self.shared)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of history.csv."""

    iteration: int
    evaluations: int
    seconds: float
    best_mse: float


class Journal:
    """Counts propagations and Jacobians, and writes history.csv; `engine` computes what can be
    divided."""

    def __init__(
        self,
        folder: RunFolder,
        report: Callable[[Progress], None],
        engine: Engine = IN_PROCESS,
    ) -> None:
        self.folder, self.report, self.engine = folder, report, engine
        self.stopwatch = Stopwatch()
        self.evaluations = self.gradient_evaluations = 0
        self.best = float("inf")
        self.rows: list[Row] = []
        self._phase, self._since, self._shared = "", 0.0, 0.0
        self._started = time.perf_counter()
        self._spent = 0.0  # seconds of an earlier, interrupted run

    @property
    def seconds(self) -> float:
        """Since the start, those of an interrupted run included."""
        return round(self._spent + time.perf_counter() - self._started, 3)

    def history(self) -> Float[np.ndarray, "rows columns"]:
        """The rows, as a checkpoint keeps them."""
        kept = np.array([dataclasses.astuple(row) for row in self.rows], dtype=float)
        return kept.reshape(-1, len(dataclasses.fields(Row)))

    def resume(self, history: Float[np.ndarray, "rows columns"]) -> None:
        """Go on after the `history` of an interrupted run."""
        self.rows = [Row(int(n), int(e), float(s), float(m)) for n, e, s, m in history]
        if self.rows:
            last = self.rows[-1]
            self._spent, self.evaluations, self.best = (
                last.seconds,
                last.evaluations,
                last.best_mse,
            )

    def count(self, evaluations: int = 0, gradients: int = 0) -> None:
        """Add propagations and Jacobians (or gradients) to what was computed."""
        self.evaluations += evaluations
        self.gradient_evaluations += gradients

    def note(
        self,
        phase: str,
        mse: float | None = None,
        *,
        budget: int = 0,
        length: float | None = None,
        picture: Callable[[], Picture] | None = None,
    ) -> None:
        """Note a step; `mse` is the best mean squared error after it, where it is known; `budget`
        of evaluations and `length` of the trust region, where there are such; `picture` computes
        the best fit."""
        if mse is not None:
            self.best = mse
        seconds = self.seconds
        self.rows.append(Row(len(self.rows), self.evaluations, seconds, self.best))
        self.folder.write_history(
            [field.name for field in dataclasses.fields(Row)],
            [list(dataclasses.astuple(row)) for row in self.rows],
        )
        share = self.evaluations / budget if budget and phase == "search" else None
        told = Progress(phase, self.evaluations, budget, seconds, self.best, length)
        if phase != self._phase:
            self._phase, self._since, self._shared = phase, seconds, share or 0.0
        self._tell(dataclasses.replace(told, picture=picture, share=share))

    def tick(self, phase: str, what: str = "regions") -> Callable[[int, int], None]:
        """Reports how many regions, or else, a long step has done; no line of the history."""

        self._phase, self._since, self._shared = phase, self.seconds, 0.0

        def report(done: int, count: int) -> None:
            part, share = f"{done} of {count} {what}", done / count if count else None
            told = Progress(phase, self.evaluations, 0, self.seconds, self.best, part=part)
            self._tell(dataclasses.replace(told, share=share))

        return report

    def _tell(self, told: Progress) -> None:
        self.report(dataclasses.replace(told, since=self._since, shared=self._shared))

    def cost(self) -> Cost:
        """The `cost` of a result."""
        self.stopwatch.stop()
        return Cost(
            int(self.evaluations),
            int(self.gradient_evaluations),
            round(self._spent + self.stopwatch.wall_s, 3),
            self.stopwatch.compile_s,
        )
