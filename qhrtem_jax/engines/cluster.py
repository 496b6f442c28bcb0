"""Work given to the workers of a Dask scheduler, as tasks; what a lost worker had begun, another
does again."""

import contextlib
import dataclasses
import logging
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import dask.config
import jax
import numpy as np
from distributed import (
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Worker,
    WorkerPlugin,
    as_completed,
)
from jaxtyping import PyTree

from qhrtem_jax.engines.engine import IN_PROCESS, Items, Parts, filled, first
from qhrtem_jax.engines.tasks import compute, own, require
from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics.devices import usable_cores
from qhrtem_jax.version import VERSION

WAITING = 3
"""Tasks for each worker that are given out before any of them is done."""

CONNECT_S, FIRST_WORKER_S = 20, 60
"""So long a scheduler, and its first worker, are waited for."""

LOST_WORKERS = 10
"""A task that ends more workers than these is at fault itself."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cluster:
    """The workers of a scheduler; `where` it is, for messages."""

    client: Client
    where: str

    def parts(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        """As of any `Engine`; a single item is computed here."""
        if len(items[0]) == 1:
            yield from IN_PROCESS.parts(function, common, items, at_once)
            return
        try:
            yield from self._parts(function, common, items, at_once)
        except KilledWorker as error:
            raise InputError(
                f"engine: {error.allowed_failures + 1} workers in turn ended while they did the "
                "same task: they may lack memory (their logs say more); go on with resume=true"
            ) from None
        except (CancelledError, OSError) as error:
            raise InputError(
                f"engine: the scheduler {self.where} is gone ({type(error).__name__}): start it "
                "again, and go on with resume=true"
            ) from None

    def _parts(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        known: Any = self.client.nthreads()
        count, workers = len(items[0]), max(len(known), 1)
        size = task_size(count, workers, at_once)
        work = pickle.dumps((function, on_host(common)))
        starts = iter(range(0, count, size))
        asked: dict[Future, slice] = {}

        def ask(most: int) -> list[Future]:
            new = []
            for _, start in zip(range(most), starts, strict=False):
                here = slice(start, min(start + size, count))
                part = tuple(filled(a, here, size) for a in items)
                future = self.client.submit(compute, work, VERSION, part, pure=False)
                asked[future] = here
                new.append(future)
            return new

        try:
            done = as_completed(ask(WAITING * workers), loop=self.client.loop)
            for future in done:
                found, here = future.result(), asked.pop(future)
                done.update(ask(1))
                yield here, first(found, here.stop - here.start)
        finally:
            if asked and self.client.status == "running":
                self.client.cancel(list(asked))


def task_size(count: int, workers: int, at_once: int) -> int:
    """Items of a task: a power of two, so that few programs are compiled, or what fits; every
    worker has something to do."""
    share = -(-count // workers)
    return max(1, min(1 << (share - 1).bit_length(), at_once))


def on_host(tree: PyTree) -> PyTree:
    """With NumPy's arrays in place of JAX's."""
    return jax.tree.map(lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, tree)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What is lost and found again, opened and closed, is nothing to tell a user."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def local(workers: int | None) -> Iterator[Cluster]:
    """Processes of this machine, which share out its cores; as many as there are of these, where no
    number is given. Those that are lost are replaced."""
    cores = usable_cores()
    count = workers or len(cores)
    with (
        _quiet(),
        dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}),
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as made,  # type: ignore[arg-type]
        Client(made) as client,
    ):
        client.register_plugin(OwnCores(cores, count))
        yield Cluster(client, "of this machine")


@contextlib.contextmanager
def running(address: str) -> Iterator[Cluster]:
    """The workers of a scheduler that was started elsewhere, which stays.

    **Raises:** `InputError` where it, or its workers, do not answer, or are of another version.
    """
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"engine: no scheduler answers at {address} ({type(error).__name__}), "
            "expected one as `dask scheduler` starts it"
        ) from None
    with _quiet(), client:
        try:
            client.wait_for_workers(1, FIRST_WORKER_S)
        except TimeoutError:
            raise InputError(
                f"engine: the scheduler at {address} has no workers after "
                f"{FIRST_WORKER_S} s, expected some as `dask worker {address}` starts them"
            ) from None
        try:
            client.run(require, VERSION)
        except ImportError as error:
            raise InputError(
                f"engine: a worker of {address} lacks what it needs ({error}), "
                f"expected qhrtem_jax {VERSION} there"
            ) from None
        yield Cluster(client, f"at {address}")


class OwnCores(WorkerPlugin):
    """Gives each of some workers, and whatever takes its place, its part of the cores."""

    def __init__(self, cores: list[int], workers: int) -> None:
        self.cores, self.workers = cores, workers

    def setup(self, worker: Worker) -> None:
        number = int(worker.name) % self.workers
        own(self.cores[number % len(self.cores) :: self.workers])
