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
from qhrtem_jax.engines.tasks import compute, own, ready
from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics.devices import MOST_CORES, usable_cores
from qhrtem_jax.version import VERSION

WAITING = 3
"""Tasks for each worker that are given out before any of them is done."""

CONNECT_S, FIRST_WORKER_S = 20, 300
"""So long a scheduler, and its first worker, are waited for."""

LOST_WORKERS = 10
"""A task that ends more workers than these is at fault itself."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cluster:
    """The workers of a scheduler; `where` it is, for messages; `devices` of each worker."""

    client: Client
    where: str
    devices: int

    @property
    def workers(self) -> int:
        """How many there are at present."""
        known: Any = self.client.nthreads()
        return max(len(known), 1)

    @property
    def width(self) -> int:
        return self.workers * self.devices

    def parts(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        """As of any `Engine`; a single item is computed here."""
        if len(items[0]) == 1:
            yield from IN_PROCESS.parts(function, common, items, at_once)
            return
        for here, found in self._watched(function, common, items, at_once):
            if isinstance(found, KilledWorker):
                raise InputError(
                    f"engine: {found.allowed_failures + 1} workers in turn ended while they did "
                    "the same task: they may lack memory (their logs say more)"
                )
            if isinstance(found, BaseException):
                raise found
            yield here, first(found, here.stop - here.start)

    def _watched(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        """As `_results`; whatever fails here, not in a task, fails since the scheduler is gone."""
        try:
            yield from self._results(function, common, items, at_once)
        except Exception as error:
            lost = isinstance(error, CancelledError | OSError)
            if not lost and self.client.status == "running":
                raise
            raise InputError(
                f"engine: the scheduler {self.where} is gone ({type(error).__name__}): start it "
                "again, and go on with resume=true"
            ) from None

    def _results(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        """(which items, what was found of them and of what fills the task up, or its error)."""
        count = len(items[0])
        size = task_size(count, self.workers, at_once * self.devices)
        work = pickle.dumps((function, on_host(common)))
        starts = iter(range(0, count, size))
        asked: dict[Future, slice] = {}

        def ask() -> list[Future]:
            """Workers may have come since the last time."""
            new = []
            for _, start in zip(range(WAITING * self.workers - len(asked)), starts, strict=False):
                here = slice(start, min(start + size, count))
                part = tuple(filled(a, here, size) for a in items)
                future = self.client.submit(compute, work, VERSION, part, at_once, pure=False)
                asked[future] = here
                new.append(future)
            return new

        try:
            done = as_completed(ask(), loop=self.client.loop)
            for future in done:
                error = future.exception()
                found = future.result() if error is None else error
                here = asked.pop(future)
                done.update(ask())
                yield here, found
        finally:
            if asked and self.client.status == "running":
                self.client.cancel(list(asked))


def task_size(count: int, workers: int, at_once: int) -> int:
    """Items of a task: a power of two, so that few programs are compiled, or what fits; every
    worker has something to do."""
    share = max(count // workers, 1)
    return min(1 << (share.bit_length() - 1), at_once)


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
def local(workers: int | None, cores: int | None, platform: str | None) -> Iterator[Cluster]:
    """Processes of this machine, which share out its cores; as many as there are of these, where no
    number is given. Those that are lost are replaced."""
    mine = usable_cores()[: cores or MOST_CORES]
    count = workers or len(mine)
    with (
        _quiet(),
        dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=0,  # a worker that nears one would wait without an end
            dashboard_address=None,  # type: ignore[arg-type]
        ) as made,
        Client(made, set_as_default=False) as client,
    ):
        client.register_plugin(OwnCores(mine, count, platform))
        yield Cluster(client, "of this machine", max(len(mine) // count, 1))


@contextlib.contextmanager
def running(address: str) -> Iterator[Cluster]:
    """The workers of a scheduler that was started elsewhere, which stays.

    **Raises:** `InputError` where it, or its workers, do not answer, or are of another version.
    """
    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"engine: no scheduler answers at {address} ({type(error).__name__}), "
                "expected one as `dask scheduler` starts it"
            ) from None
        with client:
            yield Cluster(client, f"at {address}", _devices(client, address))


def _devices(client: Client, address: str) -> int:
    """Of the worker that has the fewest; all are of this version."""
    try:
        client.wait_for_workers(1, FIRST_WORKER_S)
    except TimeoutError:
        raise InputError(
            f"engine: the scheduler at {address} has no workers after {FIRST_WORKER_S} s, "
            f"expected some as `dask worker {address}` starts them"
        ) from None
    try:
        known: Any = client.run(ready, VERSION)
    except ImportError as error:
        raise InputError(
            f"engine: a worker of {address} lacks what it needs ({error}), "
            f"expected qhrtem_jax {VERSION} there"
        ) from None
    return min(known.values())


class OwnCores(WorkerPlugin):
    """Gives each of some workers, and whatever takes its place, its part of the cores."""

    def __init__(self, cores: list[int], workers: int, platform: str | None) -> None:
        self.cores, self.workers, self.platform = cores, workers, platform

    def setup(self, worker: Worker) -> None:
        number = int(worker.name) % self.workers
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        own(self.cores[number % len(self.cores) :: self.workers], self.platform)
