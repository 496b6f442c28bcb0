"""The search for imaging parameters: Bayesian optimization, least squares, or both."""

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.imaging.bayesian import bayesian_search
from qhrtem_jax.imaging.least_squares import least_squares, random_starts
from qhrtem_jax.imaging.model import Found, SearchModel
from qhrtem_jax.io.journal import Journal


def search(model: SearchModel, journal: Journal) -> Found:
    """The best parameters that the chosen optimizer finds.

    **Raises:** `NonFiniteError` if no evaluation gave a finite image.
    """
    explore = random_starts if model.settings.name == "lm" else bayesian_search
    vectors, values = explore(model, journal)
    if not np.any(np.isfinite(values)):
        raise NonFiniteError("no parameter vector gave a finite image")
    if model.settings.name == "turbo":
        best = int(np.nanargmin(values))
        return Found(vectors[best], float(values[best]))
    return least_squares(model, vectors, values, journal)


def reweighed(
    model: SearchModel,
    vector: Float[np.ndarray, " parameters"],
    data_variance: float,
    journal: Journal,
) -> Found:
    """Least squares from `vector` with another weight of the data against the priors."""
    return least_squares(
        model.weighed(data_variance), vector[None], np.zeros(1), journal, go_on=False
    )
