"""Pixels that carry no weight."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.matching.likelihood import make_likelihood
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.refine import hidden as hidden_pixels
from qhrtem_jax.refine.hidden import filled

NOISE = NoiseModel(2e-4, (0.4, 0.1))
SHAPE = (9, 11)


@pytest.fixture
def case():
    """(simulation, image, hidden pixels)."""
    rng = np.random.default_rng(1)
    hidden = np.zeros(SHAPE, dtype=bool)
    hidden[2:5, 3:6] = hidden[7, 9] = True
    simulation = 1.0 + 0.1 * rng.normal(size=SHAPE)
    return simulation, simulation + 0.02 * rng.normal(size=SHAPE), hidden


def test_chi_square_is_that_of_the_other_pixels(case):
    simulation, image, hidden = case
    likelihood = make_likelihood(NOISE, SHAPE, jnp.dtype("float64"))
    image[hidden] = 50.0  # means nothing
    known = filled(likelihood, simulation, image, hidden)
    np.testing.assert_array_equal(known[~hidden], image[~hidden])
    rows, cols = (NOISE.correlation(n) for n in SHAPE)
    covariance = NOISE.variance * np.kron(rows, cols)
    seen = ~hidden.ravel()
    missed = (simulation - image).ravel()[seen]
    expected = missed @ np.linalg.solve(covariance[np.ix_(seen, seen)], missed)
    found = float(likelihood.objective(jnp.asarray(simulation), jnp.asarray(known)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_they_were_does_not_matter(case, monkeypatch):
    simulation, image, hidden = case
    likelihood = make_likelihood(NOISE, SHAPE, jnp.dtype("float64"))
    other = np.where(hidden, -3.0, image)
    np.testing.assert_allclose(
        filled(likelihood, simulation, image, hidden), filled(likelihood, simulation, other, hidden)
    )
    monkeypatch.setattr(hidden_pixels, "TOO_MANY", 5)
    many = filled(likelihood, simulation, image, hidden)
    np.testing.assert_array_equal(many[hidden], simulation[hidden])
    assert filled(likelihood, simulation, image, np.zeros(SHAPE, dtype=bool)) is image
