"""Where the crystal's cell begins in an image that was cut without regard to it.

The bounds of A0 are narrow, since they tell equivalent places apart; a cell that begins elsewhere,
as where the image begins at an atom, is out of their reach.
"""

import dataclasses
import logging
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.imaging.model import search_model
from qhrtem_jax.imaging.problem import ImagingProblem
from qhrtem_jax.inputs.parameter_space import SHIFT, ParameterSpace
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.noise import GUESSED_VARIANCE
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.reporting.result import Parameter

log = logging.getLogger(__name__)

BATCHES = 8
"""Of random parameters that places are compared with."""

AT_BOUND, ALIKE = 0.01, 0.95
"""A0 is at a bound within this share of its range; images of the right model correlate better."""

CLEARLY = 0.5
"""A place beyond the bounds is taken where the misfit there is less than this share."""


def out_of_reach(parameters: Mapping[str, Parameter], ncc: float, space: ParameterSpace) -> bool:
    """Whether a fit may have missed where the cell begins: A0 lies at a bound, or the images are
    hardly alike."""
    shares = [(parameters[v.name].value - v.low) / (v.high - v.low) for v in space.shift]
    at_bound = min(shares) < AT_BOUND or max(shares) > 1.0 - AT_BOUND
    return bool(ncc < ALIKE or at_bound)


def with_origin(problem: ImagingProblem, simulator: Simulator, journal: Journal) -> ImagingProblem:
    """The problem with the bounds of A0 around where the cell begins: within half a cell, unless
    the settings say where."""
    space, known = problem.space, [problem.settings.parameter(name) for name in SHIFT]
    given = any(x is not None for p in known for x in (p.value, p.low, p.high, p.prior_mean))
    if "shift" not in space.profiled or given:
        return problem
    half = [0.5 * size for size in problem.crystal.size_nm[:2]]
    everywhere = _around(space, np.zeros(2), half)
    (near, _), (far, place) = (_best(problem, simulator, s, journal) for s in (space, everywhere))
    if not far < CLEARLY * near:
        return problem
    log.info(
        "the cell begins %.3f, %.3f nm (x, y) from the corner of the image: A0 is looked for there",
        *place,
    )
    width = [0.5 * (variable.high - variable.low) for variable in space.shift]
    return dataclasses.replace(problem, space=_around(space, place, width))


def _around(space: ParameterSpace, centre: np.ndarray, reach: list[float]) -> ParameterSpace:
    """The space with A0 within `reach` of `centre` (x, y), in nm."""
    first, second = (
        dataclasses.replace(variable, low=float(c - r), high=float(c + r))
        for variable, c, r in zip(space.shift, centre, reach, strict=True)
    )
    return dataclasses.replace(space, shift=(first, second))


def _best(
    problem: ImagingProblem, simulator: Simulator, space: ParameterSpace, journal: Journal
) -> tuple[float, np.ndarray]:
    """(the least mean squared error of random parameters, A0 there)."""
    here = dataclasses.replace(problem, space=space)
    model = search_model(here, simulator, GUESSED_VARIANCE)
    rng = np.random.default_rng(problem.settings.seed)
    least, place = np.inf, np.zeros(2)
    for _ in range(BATCHES):
        unit = rng.uniform(size=(model.batch, len(space.space)))
        _, _, found, vectors = model.evaluator(jnp.asarray(unit))
        journal.count(model.batch)
        mse = np.nan_to_num(np.asarray(found, float), nan=np.inf)
        best = int(np.argmin(mse))
        if mse[best] < least:
            least = float(mse[best])
            place = np.asarray(vectors[best], float)[[INDEX[name] for name in SHIFT]]
    return least, place
