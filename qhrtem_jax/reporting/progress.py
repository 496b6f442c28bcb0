"""Progress of a search in a terminal: a live line, or plain lines where output is no terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qhrtem_jax.stages.search import Progress as Standing

PLAIN_SECONDS = 5.0
"""Time between two plain lines."""


class ProgressLine:
    """Shows evaluations, best MSE, length of the trust region and the time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self.last = 0.0
        self.phase = ""
        self.first: Standing | None = None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f} evaluations"),
            TextColumn("best MSE {task.fields[best]}"),
            TextColumn("{task.fields[region]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task("setting up", total=1, best="-", region="")

    def __enter__(self) -> "ProgressLine":
        self.say("setting up: choosing grids and compiling (the first run takes longest) ...")
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, now: Standing) -> None:
        region = "" if now.length is None else f"region {now.length:.3f}"
        best = f"{now.best_mse:.6f}"
        if self.live:
            self.bar.update(
                self.task,
                description=now.phase,
                completed=now.evaluations,
                total=now.budget or None,
                best=best,
                region=region,
            )
            return
        if self.first is None:  # its time is mostly compilation
            self.first = now
        if time.monotonic() - self.last < PLAIN_SECONDS and now.phase == self.phase:
            return
        self.last, self.phase = time.monotonic(), now.phase
        left = ""
        done = now.evaluations - self.first.evaluations
        if now.phase == "search" and done and now.budget:
            rate = (now.seconds - self.first.seconds) / done
            left = f", about {rate * (now.budget - now.evaluations):.0f} s left"
        budget = f"/{now.budget}" if now.budget else ""
        self.say(
            f"{now.phase}: {now.evaluations}{budget} evaluations, best MSE {best}"
            f"{', ' + region if region else ''}, {now.seconds:.0f} s{left}"
        )

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        self.console.print(text, highlight=False, soft_wrap=True)
