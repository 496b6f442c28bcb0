"""Ctrl-C and SIGTERM: one line, files whole, exit status 130 and 143."""

import contextlib
import dataclasses
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
PATIENCE_SECONDS = 10.0
"""A compiler or a device that does not come back within this time is left behind."""


@dataclasses.dataclass
class Advice:
    """The line that an interrupted run ends with."""

    text: str = "interrupted before the run began"

    def of_run(self, folder: Path, overwrite: bool) -> None:
        """From here on the run in `folder` can be resumed."""
        without = " instead of overwrite=true" if overwrite else ""
        self.text = (
            f"interrupted: the same command with resume=true{without} and "
            f"hydra.run.dir={shlex.quote(str(folder))} goes on"
        )


class Interrupted(BaseException):
    """The user or the system asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.status = STATUS[signal.Signals(number)]


@contextlib.contextmanager
def interruptible(patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Advice]:
    """Turn the two signals into `Interrupted`, raised in the main thread.

    Python runs handlers between its own instructions only. Where the main thread sits in a long
    computation instead, a second thread ends the process: every file is whole or absent, so
    nothing is lost by it.
    """
    advice = Advice()
    if threading.current_thread() is not threading.main_thread():
        yield advice
        return
    ends, wakes = socket.socketpair()
    wakes.setblocking(False)

    over = threading.Event()

    def watch() -> None:
        while number := ends.recv(1):
            if number[0] in STATUS and not over.wait(patience_seconds):
                print(f"\n{advice.text}", file=sys.stderr, flush=True)
                os._exit(STATUS[signal.Signals(number[0])])

    def interrupt(number: int, frame: object) -> None:
        del frame
        for each in STATUS:  # once is enough: what follows tidies up
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    def swallowed(problem: "sys.UnraisableHookArgs") -> None:
        """An interruption that fell into a callback, where nothing can be raised, comes again."""
        if isinstance(problem.exc_value, Interrupted):
            number = problem.exc_value.number
            signal.signal(number, interrupt)
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            hook(problem)

    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    before = {number: signal.signal(number, interrupt) for number in STATUS}
    descriptor = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield advice
    except Interrupted:
        before = {}  # further signals stay ignored while the process ends
        print(advice.text, file=sys.stderr, flush=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        sys.unraisablehook = hook
        over.set()
        wakes.close()
        watcher.join()
        ends.close()
