"""Whether JAX computes with 64-bit numbers, which only whoever starts a program may decide."""

import jax

from qhrtem_jax.errors import InputError


def need_float64(what: str) -> None:
    """**Raises:** `InputError` where JAX's 64-bit numbers are off; `what` needs them."""
    if not jax.config.read("jax_enable_x64"):
        raise InputError(
            f"{what} needs 64-bit numbers: call jax.config.update('jax_enable_x64', True) first"
        )
