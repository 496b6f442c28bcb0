"""The engine that the options name, for as long as a run needs it."""

import contextlib

from qhrtem_jax.engines.engine import IN_PROCESS, Engine
from qhrtem_jax.engines.settings import EngineOptions
from qhrtem_jax.errors import InputError
from qhrtem_jax.numerics.devices import PLATFORMS


def opened(
    options: EngineOptions, cores: int | str = "auto", device: str = "auto"
) -> contextlib.AbstractContextManager[Engine]:
    """The engine, which is closed in the end; a scheduler that was running stays. `cores` and
    `device`, as for this process, hold for its workers of this machine together.

    **Raises:** `InputError` where Dask is not installed, the scheduler or its workers do not
    answer, or they have another version of the package.
    """
    if options.name == "none":
        return contextlib.nullcontext(IN_PROCESS)
    try:
        import qhrtem_jax.engines.cluster as cluster
    except ImportError:
        raise InputError(
            f"engine: found {options.name}, expected none where Dask is not installed: pip "
            "install 'qhrtem_jax[cluster]'"
        ) from None
    if options.address is not None:
        return cluster.running(options.address)
    return cluster.local(
        None if isinstance(options.workers, str) else options.workers,
        None if isinstance(cores, str) else cores,
        PLATFORMS.get(device),
    )
