"""Work on many items, given to whoever computes it a part at a time."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.numerics import devices
from qhrtem_jax.numerics.devices import over_devices

Items = tuple[Shaped[np.ndarray, "..."], ...]
"""Arrays whose first axis is that of the items."""

Parts = Iterator[tuple[slice, Any]]
"""(which of the items, arrays of what was found of them), in any order."""


@runtime_checkable
class Engine(Protocol):
    """Computes a function of each of many items."""

    @property
    def width(self) -> int:
        """How many devices compute side by side."""
        ...

    def parts(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        """`function(*common, *item)` of each item, which returns arrays; parts as they are done.

        **Arguments:** `function`, of a module, so that other processes find it; `common`, PyTrees
        that all items share; `at_once`, how many items fit into a device's memory.

        **Raises:** `InputError` where those that compute are gone.
        """
        ...


@dataclasses.dataclass(frozen=True)
class InProcess:
    """All devices of this process."""

    @property
    def width(self) -> int:
        return devices.count()

    def parts(
        self, function: Callable[..., Any], common: tuple, items: Items, at_once: int
    ) -> Parts:
        count, chunk = len(items[0]), at_once * devices.count()
        for start in range(0, count, chunk):
            here = slice(start, min(start + chunk, count))
            found = each(
                function, common, tuple(jnp.asarray(filled(a, here, chunk)) for a in items)
            )
            yield here, found if here.stop - start == chunk else first(found, here.stop - start)


IN_PROCESS = InProcess()


def together(
    parts: Parts, count: int, tick: Callable[[int, int], None] = lambda done, count: None
) -> Any:
    """Arrays of all `count` items, in double precision; `tick` is told how many are done."""
    found, done = [], 0
    for here, part in parts:
        found.append((here.start, part))
        done += here.stop - here.start
        tick(done, count)
    ordered = [part for _, part in sorted(found, key=lambda entry: entry[0])]
    return jax.tree.map(
        lambda *leaves: np.concatenate([np.asarray(x, float) for x in leaves]), *ordered
    )


@eqx.filter_jit
def each(function: Callable[..., Any], common: tuple, items: tuple) -> Any:
    """`function(*common, *item)` of each item, shared out among the devices of this process; their
    number is a multiple of that of the devices."""

    def on_device(common: tuple, items: tuple) -> Any:
        return jax.vmap(lambda *item: function(*common, *item))(*items)

    return over_devices(on_device, common, items)


def filled(
    items: Shaped[np.ndarray, "n ..."], here: slice, length: int
) -> Shaped[np.ndarray, "m ..."]:
    """Some of the items, the last one repeated until they are `length`: programs are compiled for
    one length."""
    return items[np.minimum(np.arange(here.start, here.start + length), here.stop - 1)]


def first(found: Any, count: int) -> Any:
    """The first `count` items of all arrays."""
    return jax.tree.map(lambda leaf: leaf[:count], found)
