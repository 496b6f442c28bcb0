"""The experiment: which places a beam goes to next, from what it has found so far.

Ask and tell, for a live microscope as for an image that is there already:

    state = begin(places, options)
    while ...:
        chosen = ask(state, batch)
        state = tell(state, chosen, measured_at(places[chosen]))
    mean, std = predict(state)
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qhrtem_jax.bayesopt import gp
from qhrtem_jax.bayesopt.candidates import Choice, next_batch
from qhrtem_jax.bayesopt.gp import Hyperparameters, Posterior, Prior
from qhrtem_jax.numerics.precision import need_float64

EVALUATIONS = 40
"""Of the likelihood and its gradient, for the hyperparameters after each batch."""

ROWS = 64
"""Training sets are padded to a multiple of so many rows."""

PINNED = 1e-3
"""Deviation of the logarithm of a length scale that is given."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """`acquisition` (ei, pi, ucb) with its `beta`; `kernel`; `length_px`: the correlation length
    that is expected, or given where it is `known`; `path_cost` of going once across the image, in
    units of how much the gains of candidates differ; `expected_points`, for which programs are made
    once (more compile again)."""

    length_px: float
    acquisition: str = "ei"
    kernel: str = "matern52"
    beta: float = 4.0
    path_cost: float = 0.0
    known: bool = False
    expected_points: int = 256


@dataclasses.dataclass(frozen=True)
class Campaign:
    """What was measured where: `measured` indices of `places` (row, col in pixels), in order."""

    places: Float[np.ndarray, "n 2"]
    strategy: Strategy
    measured: Int[np.ndarray, " m"]
    values: Float[np.ndarray, " m"]
    _fit: list[tuple[Posterior, float, float]] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )  # the Gaussian process, once it is asked for

    @property
    def way_px(self) -> float:
        """Length of the way so far."""
        steps = np.diff(self.places[self.measured], axis=0)
        return float(np.hypot(*steps.T).sum())

    @property
    def extent_px(self) -> float:
        """Of the square that holds all places."""
        return float(max(np.ptp(self.places, axis=0).max(), 1.0))


def begin(places: Float[np.ndarray, "n 2"], strategy: Strategy) -> Campaign:
    """Before anything was measured.

    **Raises:** `InputError` where JAX's 64-bit numbers are off.
    """
    need_float64("the Gaussian process")
    return Campaign(
        np.asarray(places, float), strategy, np.zeros(0, dtype=int), np.zeros(0, dtype=float)
    )


def ask(state: Campaign, batch: int) -> Int[np.ndarray, " batch"]:
    """The next places: indices, in the order to go; the first place of all is the one nearest to
    the middle. Fewer than `batch` where no more are left."""
    open_ = np.ones(len(state.places), dtype=bool)
    open_[state.measured] = False
    batch = min(batch, int(open_.sum()))
    if batch == 0:
        return np.zeros(0, dtype=int)
    if not state.measured.size:
        middle = 0.5 * (state.places.min(axis=0) + state.places.max(axis=0))
        return np.argsort(np.hypot(*(state.places - middle).T), kind="stable")[:1]
    strategy, unit = state.strategy, _unit(state)
    choice = Choice(
        strategy.acquisition,
        jnp.asarray(strategy.beta, jnp.float64),
        jnp.asarray(strategy.path_cost, jnp.float64),
    )
    chosen = next_batch(
        choice,
        _posterior(state)[0],
        jnp.asarray(unit),
        jnp.asarray(open_),
        jnp.asarray(unit[state.measured[-1]]),
        batch,
    )
    chosen = np.asarray(chosen)
    if strategy.path_cost > 0.0:
        chosen = _shortest(state.places, int(state.measured[-1]), chosen)
    return chosen


def tell(
    state: Campaign, chosen: Int[np.ndarray, " k"], values: Float[np.ndarray, " k"]
) -> Campaign:
    """The state with what was found at some places.

    **Raises:** `ValueError` for values that are not finite, or not one for each place.
    """
    if len(chosen) != len(values) or not np.all(np.isfinite(values)):
        raise ValueError(f"found {values} at {len(chosen)} places, expected a finite value of each")
    return dataclasses.replace(
        state,
        measured=np.concatenate([state.measured, chosen]),
        values=np.concatenate([state.values, np.asarray(values, float)]),
    )


def predict(state: Campaign) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(expected value, standard deviation) at every place."""
    posterior, shift, scale = _posterior(state)
    mean, variance = _at(posterior, jnp.asarray(_unit(state)))
    return shift + scale * np.asarray(mean), scale * np.sqrt(np.asarray(variance))


@eqx.filter_jit
def _at(posterior: Posterior, points: Float[Array, "n d"]) -> tuple[Array, Array]:
    return posterior.mean(points)[:, 0], posterior.variance(points)


def _unit(state: Campaign) -> Float[np.ndarray, "n 2"]:
    """Places in the unit square."""
    return (state.places - state.places.min(axis=0)) / state.extent_px


def _posterior(state: Campaign) -> tuple[Posterior, float, float]:
    """(the Gaussian process, shift and scale of its standardised values); kept with the state."""
    if state._fit:
        return state._fit[0]
    strategy, count = state.strategy, len(state.measured)
    shift = float(state.values.mean())
    scale = float(state.values.std()) or 1.0
    rows = ROWS * -(-max(count, strategy.expected_points) // ROWS)
    x, y = np.zeros((rows, 2)), np.zeros((rows, 1))
    x[:count] = _unit(state)[state.measured]
    y[:count, 0] = (state.values - shift) / scale
    at_1d = strategy.length_px / state.extent_px / 2.0**0.5
    prior = Prior(
        lengthscale_at_1d=at_1d,
        lengthscale_sigma=PINNED if strategy.known else 0.5,
        noise=1e-2,
        kernel=strategy.kernel,
    )
    mask = jnp.arange(rows) < count
    state._fit.append((_fitted(jnp.asarray(x), jnp.asarray(y), mask, prior), shift, scale))
    return state._fit[0]


@eqx.filter_jit
def _fitted(x: Float[Array, "n d"], y: Float[Array, "n 1"], mask: Array, prior: Prior) -> Posterior:
    start: Hyperparameters = prior.start(x.shape[1])
    return gp.condition(x, y, mask, gp.fit(x, y, mask, start, prior, EVALUATIONS))


def _shortest(
    places: Float[np.ndarray, "n 2"], here: int, chosen: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " k"]:
    """The places in an order of a short way from `here`: the nearest next, then reversals of parts
    as long as these shorten it."""
    left, order = [int(k) for k in chosen], [here]
    while left:
        away = np.hypot(*(places[left] - places[order[-1]]).T)
        order.append(left.pop(int(np.argmin(away))))

    def apart(one: int, other: int) -> float:
        return float(np.hypot(*(places[one] - places[other])))

    better = True
    while better:
        better = False
        for i in range(1, len(order) - 1):
            for j in range(i + 1, len(order)):
                gain = apart(order[i - 1], order[i]) - apart(order[i - 1], order[j])
                if j + 1 < len(order):
                    gain += apart(order[j], order[j + 1]) - apart(order[i], order[j + 1])
                if gain > 1e-9:
                    order[i : j + 1] = order[i : j + 1][::-1]
                    better = True
    return np.array(order[1:], dtype=int)
