"""What the terminal says while a stage works, and when it does not."""

import io
import time

from rich.console import Console

from qhrtem_jax.io.journal import Progress
from qhrtem_jax.reporting.progress import ProgressLine


def said_after(wait) -> str:
    text = io.StringIO()
    with ProgressLine(Console(file=text, width=200), still_seconds=0.2) as line:
        line(Progress("counting", 7, 0, 1.0, 0.5, part="3 of 9 regions"))
        wait()
    return text.getvalue()


def test_a_still_process_says_what_it_waits_for():
    text = said_after(lambda: time.sleep(0.6))
    assert "no progress" in text
    assert '"counting, 3 of 9 regions"' in text
    assert "nothing is being computed" in text


def test_a_busy_process_is_told_from_a_still_one():
    def work():
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            sum(range(1000))

    assert "the processor is busy" in said_after(work)


def test_progress_silences_the_watch():
    text = io.StringIO()
    with ProgressLine(Console(file=text, width=200), still_seconds=0.5) as line:
        for k in range(10):
            line(Progress("search", k, 10, 1.0, 0.5))
            time.sleep(0.1)
    assert "no progress" not in text.getvalue()
