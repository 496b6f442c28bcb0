"""What other processes do: they make themselves ready, and compute a part of the work."""

import functools
import os
import pickle
import signal
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.engines.engine import IN_PROCESS
from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics import devices
from qhrtem_jax.version import VERSION

KNOWN = 4
"""Simulators that a worker keeps: tasks that follow each other mostly have the same."""


def compute(
    work: bytes, version: str, items: tuple[Shaped[np.ndarray, "..."], ...], at_once: int
) -> Any:
    """A task: the function and what is common to all items in `work` (pickled), of each item,
    `at_once` on each device of this worker.

    **Raises:** `InputError` where this worker is of another version than the process that asks.
    """
    ready(version)
    function, common = _unpacked(work)
    parts = [found for _, found in IN_PROCESS.parts(function, common, items, at_once)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@functools.lru_cache(KNOWN)
def _unpacked(work: bytes) -> Any:
    return pickle.loads(work)


def ready(version: str) -> int:
    """Make this process compute as the one that asks does; how many devices it has.

    **Raises:** `InputError` where it has another version of the package.
    """
    if version != VERSION:
        raise InputError(
            f"engine: a worker has qhrtem_jax {VERSION}, expected {version}, as the process "
            "that asks: install the same on all machines, and start the workers again"
        )
    _set_up()
    return devices.count()


@functools.cache
def _set_up() -> None:
    devices.share_cores("auto")
    jax.config.update("jax_enable_x64", True)
    devices.keep_compiled()


def own(cores: Sequence[int], platform: str | None) -> None:
    """Keep this process to some of the processor's cores, each a device of JAX, before it computes;
    whoever asks decides what becomes of it on Ctrl-C. `platform`: JAX's, where one is asked for."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if platform is not None:
        jax.config.update("jax_platforms", platform)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
