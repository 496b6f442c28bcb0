"""Cholesky factors and their inverses, made of products and loops that XLA compiles itself.

XLA's CPU backend runs a batched LAPACK call as sub-tasks of its thread pool, and waits for them on
that same pool: two such calls at once can wait for each other for ever (jaxlib 0.10 on two cores;
vmapped Gaussian processes did), or take seventy times as long (jaxlib 0.12). Nothing here calls
LAPACK, so whatever vmaps or jits around it is safe, and it takes no longer than LAPACK does.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SMALL, LARGE = 16, 32
"""Sizes below which columns are eliminated one by one: small ones run faster, large ones compile
faster, which matters from `LARGE_FROM` on."""

LARGE_FROM = 256


@jax.custom_jvp
def factorise(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """(L, L^-1) with L L^T = `matrix`, L lower triangular. NaN where it is not positive definite.

    `matrix` must be symmetric. Differentiable in both modes.
    """
    n = matrix.shape[0]
    return _by_halves(matrix, LARGE if n >= LARGE_FROM else SMALL)


@factorise.defjvp
def _factorise_jvp(primals, tangents):
    """dL = L Phi(L^-1 dA L^-T), Phi the lower triangle with half the diagonal (Murray,
    arXiv:1602.07527, equation 8); d(L^-1) = -L^-1 dL L^-1."""
    (matrix,), (change,) = primals, tangents
    lower, inverse = factorise(matrix)
    inner = inverse @ (0.5 * (change + change.T)) @ inverse.T
    step = jnp.tril(inner) - 0.5 * jnp.diag(jnp.diagonal(inner))
    return (lower, inverse), (lower @ step, -step @ inverse)


def _by_halves(matrix: Array, block: int) -> tuple[Array, Array]:
    n = matrix.shape[0]
    if n <= block:
        return _by_columns(matrix)
    half = n // 2
    first, first_inverse = _by_halves(matrix[:half, :half], block)
    corner = matrix[half:, :half] @ first_inverse.T
    last, last_inverse = _by_halves(matrix[half:, half:] - corner @ corner.T, block)
    zero = jnp.zeros((half, n - half), matrix.dtype)
    lower = jnp.block([[first, zero], [corner, last]])
    inverse_corner = -last_inverse @ (corner @ first_inverse)
    return lower, jnp.block([[first_inverse, zero], [inverse_corner, last_inverse]])


def _by_columns(matrix: Array) -> tuple[Array, Array]:
    """Elimination column by column; the unit matrix that goes along becomes the inverse."""
    n = matrix.shape[0]
    index = jnp.arange(n)

    def eliminate(k: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, inverse = both
        scale = jax.lax.rsqrt(rest[k, k])
        column = jnp.where(index >= k, rest[:, k] * scale, 0.0)
        below = jnp.where(index > k, column, 0.0)
        row = inverse[k] * scale
        inverse = (inverse - below[:, None] * row).at[k].set(row)
        rest = (rest - below[:, None] * below).at[:, k].set(column)
        return rest, inverse

    unit = jnp.eye(n, dtype=matrix.dtype)
    lower, inverse = jax.lax.fori_loop(0, n, eliminate, (matrix, unit))
    return jnp.tril(lower), inverse
