"""What the terminal says while a stage works, and when it does not."""

import io
import time

import pytest
from rich.console import Console

from qhrtem_jax.io.journal import Journal, Progress
from qhrtem_jax.io.run_folder import RunFolder
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


def test_the_time_left_is_that_of_the_phase(tmp_path, monkeypatch):
    told: list[Progress] = []
    journal = Journal(RunFolder(tmp_path / "run"), told.append)
    now = [0.0]
    monkeypatch.setattr(Journal, "seconds", property(lambda self: now[0]))
    for seconds, done in ((4.0, 4), (10.0, 1), (16.0, 3)):
        if done < 3 or seconds < 5.0:
            now[0] = seconds - 3.0  # the same step, begun again
            report = journal.tick("counting", "changes")
        now[0] = seconds
        report(done, 4)
    assert told[-1].part == "3 of 4 changes"
    assert told[-1].left_s == pytest.approx(3.0)  # a quarter, at the pace of 9 s for three
    journal.note("search", 1e-3, budget=100)
    assert told[-1].left_s is None  # nothing is done yet
    journal.count(25)
    now[0] = 26.0
    journal.note("search", 1e-3, budget=100)
    assert told[-1].left_s == pytest.approx(30.0)
    text = io.StringIO()
    with ProgressLine(Console(file=text, width=200)) as line:
        line(told[-1])
    assert "25/100 evaluations" in text.getvalue()
    assert "about 30 s left" in text.getvalue()


def test_a_run_that_went_on_cost_what_both_parts_did(tmp_path):
    begun = Journal(RunFolder(tmp_path / "run"), lambda progress: None)
    begun.count(evaluations=7)
    begun.note("search", 1e-3)
    begun.cost()
    kept = begun.history()
    kept[-1, 2] = 100.0  # seconds
    journal = Journal(RunFolder(tmp_path / "run"), lambda progress: None)
    journal.resume(kept)
    journal.count(evaluations=5)
    cost = journal.cost()
    assert cost.evaluations == 12
    assert 100.0 <= cost.wall_s < 160.0
