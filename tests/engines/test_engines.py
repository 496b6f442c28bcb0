"""Work that is divided: in this process, in others of this machine, on a scheduler's workers."""

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from qhrtem_jax.engines import IN_PROCESS, cluster, opened, tasks, together
from qhrtem_jax.engines.settings import EngineOptions
from qhrtem_jax.errors import InputError
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.regions.fit import start
from qhrtem_jax.regions.model import fitter, regions_model
from qhrtem_jax.stages import run_settings
from tests import wedge
from tests.engines.slow import doubled
from tests.runs import prepared

ITEMS = np.linspace(0.0, 3.0, 53)


@pytest.fixture(scope="module")
def local():
    with opened(EngineOptions("local", 2)) as engine:
        yield engine


@contextlib.contextmanager
def scheduler():
    """(process, address) of a scheduler and two workers of the command line."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        stderr=subprocess.PIPE,
        text=True,
    ) as made:
        address = next(line.split()[-1] for line in made.stderr if "Scheduler at:" in line)
        threading.Thread(target=made.stderr.read, daemon=True).start()
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address]
        workers = [
            subprocess.Popen(
                [*worker, "--nthreads", "1", "--no-dashboard"], stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        try:
            yield made, address
        finally:
            for process in (*workers, made):
                process.terminate()
            for process in workers:
                process.wait(20)


def test_what_is_in_parts_comes_together_in_order():
    parts = list(IN_PROCESS.parts(doubled, (2.0,), (ITEMS,), 5))
    assert len(parts) > 4
    told = []
    found = together(iter(reversed(parts)), len(ITEMS), lambda *now: told.append(now))
    np.testing.assert_array_equal(found["value"], 2.0 * ITEMS)
    assert told[-1] == (len(ITEMS), len(ITEMS))


@pytest.mark.parametrize(
    ("count", "workers", "at_once", "size"),
    [(200, 2, 8, 8), (6, 2, 8, 2), (5, 8, 8, 1), (33, 16, 8, 2), (100, 24, 8, 4), (16, 2, 1, 1)],
)
def test_all_workers_have_work(count, workers, at_once, size):
    assert cluster.task_size(count, workers, at_once) == size


def test_regions_are_fitted_alike_elsewhere(local, tmp_path):
    problem = prepared(wedge.settings(tmp_path, 2)).regions
    model = regions_model(problem, problem.imaging)
    points = np.repeat(
        start(model, Journal(RunFolder(tmp_path / "run"), lambda now: None)).points, 4, axis=0
    )
    targets = np.repeat(model.targets, 4, axis=0)
    made = [
        fitter(m, m.first_weights).linearise(m.relaxed, points, targets)
        for m in (model, dataclasses.replace(model, engine=local))
    ]
    np.testing.assert_allclose(made[1].hessian, made[0].hessian, rtol=1e-9)
    np.testing.assert_allclose(made[1].image, made[0].image, rtol=1e-9)


def test_workers_that_are_killed_cost_nothing(local):
    """At moments drawn at random; another worker takes up what they had begun."""
    draw, killed = random.Random(0), []

    def kill():
        until = time.monotonic() + 60.0
        while len(killed) < 3 and time.monotonic() < until:
            time.sleep(draw.uniform(0.05, 0.6))
            with contextlib.suppress(Exception):  # one that is on its way out does not answer
                alive = list(local.client.run(os.getpid).values())
                os.kill(draw.choice(alive), signal.SIGKILL)
                killed.append(alive)

    thread = threading.Thread(target=kill)
    thread.start()
    while thread.is_alive():
        found = together(local.parts(doubled, (3.0,), (ITEMS,), 1), len(ITEMS))
        np.testing.assert_allclose(found["value"], 3.0 * ITEMS, rtol=1e-12)
    assert len(killed) == 3


def late(factor, x):
    """Fails as if a scheduler were gone."""
    raise PermissionError(13, f"{factor} {x.shape}")


def test_what_fails_in_a_worker_fails_here(local):
    with pytest.raises(PermissionError, match="13"):
        list(local.parts(late, (1.0,), (ITEMS,), 4))
    with pytest.raises(TypeError, match=r"multiply|numeric|NoneType"):
        list(local.parts(doubled, (None,), (ITEMS,), 4))
    with pytest.raises(InputError, match=r"a worker has qhrtem_jax .*, expected 0\.0\.0"):
        local.client.submit(tasks.compute, b"", "0.0.0", (), 1).result()


def test_a_running_scheduler_is_used_and_missed_when_gone():
    with scheduler() as (process, address), opened(EngineOptions("dask", "auto", address)) as made:
        found = together(made.parts(doubled, (2.0,), (ITEMS,), 4), len(ITEMS))
        np.testing.assert_array_equal(found["value"], 2.0 * ITEMS)
        parts = made.parts(doubled, (2.0,), (np.tile(ITEMS, 20),), 1)
        next(parts)
        process.kill()
        with pytest.raises(InputError, match=r"scheduler at .* is gone.*resume=true"):
            list(parts)
        with pytest.raises(InputError, match=r"scheduler at .* is gone.*resume=true"):
            list(made.parts(doubled, (2.0,), (ITEMS,), 4))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    with pytest.raises(InputError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 "):
        opened(EngineOptions("dask", "auto", "tcp://127.0.0.1:9")).__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "dask"}, r"engine\.address: found None, expected that of a running scheduler"),
        ({"address": "tcp://a:1"}, r"engine\.address: found 'tcp://a:1', .* none with others"),
        ({"name": "local", "workers": "two"}, r"engine\.workers: found 'two', expected a number"),
        ({"name": "spark"}, r"engine\.name: found 'spark', expected one of none, local, dask"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        run_settings({"stage": "reconstruct", "engine": options})
