"""Names of options in messages of what knows no options."""

import contextlib
from collections.abc import Iterator

from qhrtem_jax.errors import InputError


@contextlib.contextmanager
def named(option: str) -> Iterator[None]:
    """What is refused within is said to be the fault of `option`."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(option):
            raise
        raise InputError(f"{option}: {error}") from None
