"""Work over the leading axis of some arrays, shared out among all devices.

A processor's cores are as many devices as `jax_num_cpu_devices` says, so one way serves cores and
accelerators alike.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Shaped

from qhrtem_jax.errors import InputError

Common = TypeVar("Common")
Items = TypeVar("Items")
Found = TypeVar("Found")


MOST_CORES = 16
"""Of a processor, where no number is asked for: each holds for itself what all compute with."""


def usable_cores() -> list[int]:
    """The processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_cores(cores: int | str) -> None:
    """Make a device of each core, before JAX computes; `cores`: how many, `auto`: those that this
    process may use.

    **Raises:** `InputError` where this process has begun with another number.
    """
    chosen = min(len(usable_cores()), MOST_CORES) if isinstance(cores, str) else cores
    try:
        jax.config.update("jax_num_cpu_devices", chosen)
    except RuntimeError:
        found = jax.local_device_count("cpu")
        if not isinstance(cores, str) and cores != found:
            raise InputError(
                f"cores: found {cores}, expected {found}, with which this process began (runs of "
                "one process share it)"
            ) from None


PLATFORMS = {"gpu": "cuda", "cpu": "cpu"}
"""What JAX calls devices."""

CACHE_VARIABLE = "QHRTEM_CACHE"


def keep_compiled() -> None:
    """Keep compiled programs on disk, for later processes and those beside this one."""
    folder = os.environ.get(CACHE_VARIABLE, str(Path.home() / ".cache" / "qhrtem_jax"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # many are small
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def count() -> int:
    """How many devices share the work."""
    return jax.local_device_count()


def over_devices(function: Callable[[Common, Items], Found], common: Common, items: Items) -> Found:
    """`function(common, items)`, which maps the leading axis of each leaf of `items` to that of its
    results: every device has a part of it, and all of `common`. For compiled programs.

    **Raises:** `ValueError` where the length of the axis is no multiple of `count()`.
    """
    if count() == 1:
        return function(common, items)
    length = len(jax.tree.leaves(items)[0])
    if length % count():
        raise ValueError(f"found {length} items, expected a multiple of {count()}")
    arrays, rest = eqx.partition((common, items), eqx.is_array)
    mesh = Mesh(np.array(jax.local_devices()), ("items",))

    def part(its_common: Any, its_items: Any) -> Any:
        return function(*eqx.combine((its_common, its_items), rest))

    every, split = PartitionSpec(), PartitionSpec("items")
    # loops within start from constants, which are no device's own
    mapped = jax.shard_map(
        part, mesh=mesh, in_specs=(every, split), out_specs=split, check_vma=False
    )
    return mapped(*arrays)


def filled_up(items: Shaped[Array, "n ..."], multiple: int) -> Shaped[Array, "m ..."]:
    """`items` with the last one repeated, until they are a multiple of some number."""
    more = -len(items) % multiple
    return jnp.concatenate([items, jnp.repeat(items[-1:], more, axis=0)]) if more else items
