"""Cholesky factors without LAPACK, against NumPy's and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qhrtem_jax.numerics.positive_definite import LARGE_FROM, factorise


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    a = rng.normal(size=(*shape, shape[-1]))
    return a @ np.swapaxes(a, -1, -2) + 0.1 * shape[-1] * np.eye(shape[-1])


@pytest.mark.parametrize("n", [1, 2, 7, 16, 17, 33, 100, LARGE_FROM + 3])
def test_agrees_with_numpy(n):
    matrix = positive(np.random.default_rng(n), n)
    lower, inverse = factorise(jnp.asarray(matrix))
    expected = np.linalg.cholesky(matrix)
    np.testing.assert_allclose(lower, expected, atol=1e-13 * n)
    np.testing.assert_allclose(inverse, np.linalg.inv(expected), atol=1e-12)
    assert not np.triu(lower, 1).any()
    assert not np.triu(inverse, 1).any()


def test_a_batch_is_its_members():
    matrices = jnp.asarray(positive(np.random.default_rng(0), 5, 40))
    together = jax.vmap(factorise)(matrices)
    for k, matrix in enumerate(matrices):
        for batched, single in zip(together, factorise(matrix), strict=True):
            np.testing.assert_allclose(batched[k], single, atol=1e-14)


def test_derivatives_are_those_of_finite_differences():
    matrix = jnp.asarray(positive(np.random.default_rng(1), 6))
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 6)))

    def value(a):
        a = jnp.asarray(a)  # the differences are taken in NumPy
        lower, inverse = factorise(0.5 * (a + a.T))
        return jnp.sum(weights[0] * lower) + jnp.sum(weights[1] * inverse)

    check_grads(value, (matrix,), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_what_is_not_positive_definite_gives_nan():
    lower, _ = factorise(jnp.asarray([[1.0, 2.0], [2.0, 1.0]]))
    assert np.isnan(lower).any()
