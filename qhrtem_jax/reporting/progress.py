"""Progress of a search in a terminal: a live line, or plain lines where output is no terminal."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qhrtem_jax.io.journal import Progress as Standing

PLAIN_SECONDS = 5.0
"""Time between two plain lines."""

STILL_SECONDS = 120.0
"""After so long without progress the terminal says so, and again after twice as long."""

BUSY = 0.05
"""A process that uses less than this share of a core computes nothing."""

PACKAGE = Path(__file__).parents[1]


class ProgressLine:
    """Shows evaluations, best MSE, length of the trust region and the time left."""

    def __init__(
        self, console: Console | None = None, still_seconds: float = STILL_SECONDS
    ) -> None:
        self.console = console or Console(stderr=True)
        self.watch = Watch(self.say, still_seconds)
        self.live = self.console.is_terminal
        self.last = 0.0
        self.phase = ""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[evaluations]} evaluations"),
            TextColumn("best MSE {task.fields[best]}"),
            TextColumn("{task.fields[region]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task("setting up", total=None, evaluations=0, best="-", region="")

    def __enter__(self) -> "ProgressLine":
        self.watch.start()
        return self

    def begin(self) -> None:
        """The input is read and checked: work starts."""
        self.say("setting up: choosing grids and compiling (the first run takes longest) ...")
        self.bar.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.watch.stop()
        self.bar.stop()

    def __call__(self, now: Standing) -> None:
        self.watch.progressed(f"{now.phase}, {now.part}" if now.part else now.phase)
        region = "" if now.length is None else f"region {now.length:.3f}"
        best = f"{now.best_mse:.6f}" if now.best_mse < float("inf") else ""
        if self.live:
            if now.phase != self.phase:  # the time left is that of a phase
                self.bar.reset(self.task)
                self.phase = now.phase
            self.bar.update(
                self.task,
                description=f"{now.phase}, {now.part}" if now.part else now.phase,
                completed=now.share or 0.0,
                total=None if now.share is None else 1.0,
                evaluations=now.evaluations,
                best=best,
                region=region,
            )
            return
        if time.monotonic() - self.last < PLAIN_SECONDS and now.phase == self.phase:
            return
        self.last, self.phase = time.monotonic(), now.phase
        left = "" if now.left_s is None else f", about {now.left_s:.0f} s left"
        budget = f"/{now.budget}" if now.budget else ""
        part = f", {now.part}" if now.part else ""
        best = f", best MSE {best}" if best else ""
        self.say(
            f"{now.phase}{part}: {now.evaluations}{budget} evaluations{best}"
            f"{', ' + region if region else ''}, {now.seconds:.0f} s{left}"
        )

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        self.console.print(text, highlight=False, soft_wrap=True)


class Watch:
    """Says when nothing has been reported for long, and what the main thread is waiting for."""

    def __init__(self, say: Callable[[str], None], still_seconds: float) -> None:
        self._say, self._still = say, still_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._main = threading.get_ident()
        self._since, self._doing = time.monotonic(), "setting up"

    def start(self) -> None:
        self._since = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def progressed(self, doing: str) -> None:
        self._since, self._doing = time.monotonic(), doing

    def _run(self) -> None:
        patience, known = self._still, self._since
        busy_until, looked = time.process_time(), time.monotonic()
        while not self._over.wait(self._still / 8):
            now, used = time.monotonic(), time.process_time()
            share = (used - busy_until) / (now - looked)
            busy_until, looked = used, now
            if known != self._since:
                patience, known = self._still, self._since
            if now - self._since < patience:
                continue
            patience *= 2.0
            state = "the processor is busy" if share > BUSY else "nothing is being computed"
            self._say(
                f'no progress for {_duration(now - self._since)} in "{self._doing}": {state}, '
                f"waiting for {self._where()}"
            )

    def _where(self) -> str:
        """The innermost function of this package that the main thread is in."""
        frame = sys._current_frames().get(self._main)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents:
                return f"{frame.f_code.co_name} ({path.relative_to(PACKAGE)}:{frame.f_lineno})"
            frame = frame.f_back
        return "a part outside this package"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
