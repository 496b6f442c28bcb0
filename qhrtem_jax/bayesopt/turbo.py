"""Trust-region Bayesian optimization as pure functions: `init`, `ask`, `tell`, `step`.

    turbo = Turbo(dimensions=d, batch=8, max_evaluations=704)
    state = turbo.init(key)
    while ...:
        points, state = turbo.ask(state, key)         # (batch, d) in the unit cube
        state, info = turbo.tell(state, points, objective(points))

`step(state, key)` does the three at once for a JAX objective given as `evaluate`. The state is a
pytree of fixed shapes: nothing recompiles while the data grow.
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qhrtem_jax.bayesopt import gp, surrogate_gpjax, trust_region
from qhrtem_jax.bayesopt.acquisition import ACQUISITIONS, Effort, propose
from qhrtem_jax.bayesopt.surrogate import (
    CompositeSurrogate,
    ScalarSurrogate,
    Surrogate,
    principal_components,
)
from qhrtem_jax.bayesopt.trust_region import TrustRegion, TrustRegionOptions
from qhrtem_jax.numerics.precision import need_float64

SURROGATES = ("scalar", "composite", "gpjax")
OUTPUTS = ("log", "standardised")
LARGEST_BETA = 1e12
LARGE_VALUE = 1e100
"""Values beyond it are scaled before they are squared."""

Evaluate = Callable[[Float[Array, "q d"]], tuple[Float[Array, " q"], Float[Array, "q outputs"]]]


@dataclasses.dataclass(frozen=True)
class TurboOptions:
    """Choices of the optimizer; the defaults suit any black box.

    `training_points`: the surrogate is conditioned on this many points nearest to the best one of
    the current cycle (the region is local, so is its model); the cost of a step is then constant.
    All points are kept in the state, and come back into the model when the region is near them.
    `beta`: of qUCB and UCB; multiplied by `beta_growth` at each restart. Thompson sampling and
    logEI have no such number: they explore by what the model does not know.
    `local_lengthscales`: the prior of the length scales follows the size of the trust region
    (AdaScale-TuRBO: Tang and Paulson, arXiv 2604.22967), so that a small region is no flat function
    to the model before it has data.
    `output`: "standardised" models the objective, "log" its logarithm (a positive objective that
    falls over orders of magnitude, such as a mean squared error, is then far easier to model).
    """

    acquisition: str = "qucb"
    surrogate: str = "scalar"
    output: str = "standardised"
    beta: float = 0.25
    beta_growth: float = 4.0
    training_points: int = 256
    components: int = 48
    initial_points: int | None = None  # rounded up to whole batches
    initial_per_dimension: int = 2  # where `initial_points` is None
    first_fit_calls: int = 60
    fit_calls: int = 12
    effort: Effort = dataclasses.field(default_factory=Effort)
    prior: gp.Prior = dataclasses.field(default_factory=gp.Prior)
    local_lengthscales: bool = False
    region: TrustRegionOptions = dataclasses.field(default_factory=TrustRegionOptions)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("acquisition", ACQUISITIONS),
            ("surrogate", SURROGATES),
            ("output", OUTPUTS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}: found {getattr(self, name)!r}, expected one of {allowed}"
                )


class TurboState(eqx.Module):
    """All that was evaluated, and where the search stands."""

    x: Float[Array, "capacity d"]
    y: Float[Array, " capacity"]  # NaN where an evaluation failed
    residuals: Float[Array, "capacity outputs"]  # for the composite surrogate; else 0 columns
    count: Int[Array, ""]
    cycle_start: Int[Array, ""]  # first evaluation since the last restart
    design: Float[Array, "initial d"]  # points of the current initial design
    design_left: Int[Array, ""]
    region: TrustRegion
    hyperparameters: gp.Hyperparameters
    refit: Bool[Array, ""]  # the next fit starts afresh
    beta: Float[Array, ""]
    restarts: Int[Array, ""]

    def best(self) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Best point so far and its value; infinity before any finite one."""
        values = jnp.where(jnp.isfinite(self.y), self.y, jnp.inf)
        index = jnp.argmin(values)
        return self.x[index], values[index]


class TurboInfo(eqx.Module):
    """What one batch brought."""

    points: Float[Array, "batch d"]
    values: Float[Array, " batch"]
    best_value: Float[Array, ""]
    length: Float[Array, ""]
    restarts: Int[Array, ""]
    evaluations: Int[Array, ""]
    accepted: Bool[Array, ""]  # False: the budget was spent before, the batch was left out


class Turbo(eqx.Module):
    """The optimizer; minimises over the unit cube. See the module's text for its use."""

    dimensions: int = eqx.field(static=True)
    batch: int = eqx.field(static=True, default=8)
    max_evaluations: int = eqx.field(static=True, default=704)
    outputs: int = eqx.field(static=True, default=0)
    options: TurboOptions = eqx.field(static=True, default_factory=TurboOptions)

    def __check_init__(self) -> None:
        if self.max_evaluations < self.batch:
            raise ValueError(f"max_evaluations {self.max_evaluations} is below batch {self.batch}")
        if self.options.surrogate == "gpjax":
            surrogate_gpjax.require()
        if self.options.surrogate == "composite" and self.outputs == 0:
            raise ValueError("the composite surrogate needs `outputs`, the length of the residual")

    @property
    def initial_points(self) -> int:
        options = self.options
        wanted = options.initial_points or options.initial_per_dimension * self.dimensions
        return self.batch * math.ceil(wanted / self.batch)

    @property
    def capacity(self) -> int:
        return self.batch * (self.max_evaluations // self.batch)

    def init(self, key: PRNGKeyArray) -> TurboState:
        """State before the first evaluation."""
        need_float64("the Gaussian process")
        n, d = self.capacity, self.dimensions
        return TurboState(
            x=jnp.zeros((n, d), jnp.float64),
            y=jnp.full(n, jnp.nan, jnp.float64),
            residuals=jnp.zeros((n, self.outputs), jnp.float32),
            count=jnp.int32(0),
            cycle_start=jnp.int32(0),
            design=self._design(key),
            design_left=jnp.int32(self.initial_points),
            region=trust_region.start(self.options.region),
            hyperparameters=self.options.prior.start(d),
            refit=jnp.asarray(True),
            beta=jnp.asarray(self.options.beta, jnp.float64),
            restarts=jnp.int32(0),
        )

    @eqx.filter_jit
    def ask(
        self, state: TurboState, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch d"], TurboState]:
        """The next points to evaluate, and the state with the hyperparameters that chose them."""
        designing = state.design_left > 0
        points, hyperparameters = jax.lax.cond(
            designing, self._from_design, self._from_model, state, key
        )
        blind = designing | self._lost(state)
        return points, eqx.tree_at(
            lambda s: (s.hyperparameters, s.refit),
            state,
            (hyperparameters, state.refit & blind),
        )

    @eqx.filter_jit
    def tell(
        self,
        state: TurboState,
        points: Float[Array, "batch d"],
        values: Float[Array, " batch"],
        residuals: Float[Array, "batch outputs"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[TurboState, TurboInfo]:
        """Add a batch; a row with a number that is not finite counts as failed. `key` draws the
        initial design of a restart (default: from the count).

        Once the budget is spent, a further batch is left out: the state stays as it is, and
        `info.accepted` is False.
        """
        if residuals is None:
            residuals = jnp.zeros((self.batch, 0), jnp.float32)
        key = jax.random.fold_in(jax.random.key(0), state.count) if key is None else key
        sound = jnp.all(jnp.isfinite(points), axis=1) & jnp.all(jnp.isfinite(residuals), axis=1)
        values = jnp.where(sound, jnp.asarray(values, jnp.float64), jnp.nan)
        _, centre_value = self._centre(state)
        at = state.count
        fits = at + self.batch <= self.capacity

        def write(rows: Array, new: Array) -> Array:
            # beyond the end XLA would write over the last rows: these are written as they are
            old = jax.lax.dynamic_slice_in_dim(rows, at, self.batch)
            new = jnp.where(fits, new.astype(rows.dtype), old)
            return jax.lax.dynamic_update_slice_in_dim(rows, new, at, 0)

        new = jnp.min(jnp.where(jnp.isfinite(values), values, jnp.inf))
        scale = jnp.where(jnp.isfinite(centre_value), jnp.abs(centre_value), 0.0)
        improved = new < centre_value - self.options.region.improvement * scale
        tolerance = self.options.region.tolerance(self.dimensions, self.batch)
        region, collapsed = trust_region.update(
            state.region, improved, self.options.region, tolerance
        )
        designing = state.design_left > 0
        region = jax.tree.map(lambda a, b: jnp.where(designing, a, b), state.region, region)
        collapsed = collapsed & ~designing
        left = jnp.where(designing, state.design_left - self.batch, 0)
        beta = jnp.minimum(state.beta * self.options.beta_growth, LARGEST_BETA)
        added = TurboState(
            x=write(state.x, points),
            y=write(state.y, values),
            residuals=write(state.residuals, residuals),
            count=at + self.batch,
            cycle_start=jnp.where(collapsed, at + self.batch, state.cycle_start),
            design=jnp.where(collapsed, self._design(key), state.design),
            design_left=jnp.where(collapsed, self.initial_points, left),
            region=region,
            hyperparameters=state.hyperparameters,
            refit=state.refit | collapsed,
            beta=jnp.where(collapsed, beta, state.beta),
            restarts=state.restarts + collapsed,
        )
        written = lambda s: (s.x, s.y, s.residuals)  # noqa: E731
        kept = jax.tree.map(
            lambda new, old: new if new is old else jnp.where(fits, new, old),
            eqx.tree_at(written, added, written(state)),
            state,
        )
        state = eqx.tree_at(written, kept, written(added))
        info = TurboInfo(
            points, values, state.best()[1], state.region.length, state.restarts, state.count, fits
        )
        return state, info

    def step(
        self, evaluate: Evaluate, state: TurboState, key: PRNGKeyArray
    ) -> tuple[TurboState, TurboInfo]:
        """Ask, evaluate, tell. `evaluate` maps (batch, d) to (values, residuals)."""
        k_ask, k_tell = jax.random.split(key)
        points, state = self.ask(state, k_ask)
        values, residuals = evaluate(points)
        return self.tell(state, points, values, residuals, k_tell)

    def _design(self, key: PRNGKeyArray) -> Float[Array, "initial d"]:
        """A Latin hypercube."""
        n, d = self.initial_points, self.dimensions
        k_cell, k_place = jax.random.split(key)
        cells = jax.vmap(lambda k: jax.random.permutation(k, n), out_axes=1)(
            jax.random.split(k_cell, d)
        )
        return (cells + jax.random.uniform(k_place, (n, d), jnp.float64)) / n

    def _centre(self, state: TurboState) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Index and value of the best point since the last restart."""
        index = jnp.arange(self.capacity)
        alive = (index >= state.cycle_start) & (index < state.count) & jnp.isfinite(state.y)
        values = jnp.where(alive, state.y, jnp.inf)
        best = jnp.argmin(values)
        return best, values[best]

    def _lost(self, state: TurboState) -> Bool[Array, ""]:
        """Whether nothing of the current cycle gave a finite value: there is nothing to model."""
        return ~jnp.isfinite(self._centre(state)[1])

    def _from_design(
        self, state: TurboState, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch d"], gp.Hyperparameters]:
        del key
        first = self.initial_points - state.design_left
        points = jax.lax.dynamic_slice_in_dim(state.design, first, self.batch)
        return points, state.hyperparameters

    def _from_model(
        self, state: TurboState, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch d"], gp.Hyperparameters]:
        options = self.options
        k_raw, k_propose = jax.random.split(key)
        centre_index, _ = self._centre(state)
        centre = state.x[centre_index]
        surrogate, best_score = self._surrogate(state, centre)
        h = surrogate.posterior.hyperparameters
        low, high = trust_region.box(state.region, centre, jnp.exp(h.log_lengthscale))
        raw = self._raw_points(k_raw, centre, low, high)
        points = propose(
            options.acquisition,
            surrogate,
            k_propose,
            raw,
            low,
            high,
            best_score,
            state.beta,
            self.batch,
            options.effort,
        )
        # a point that went wrong, or that repeats an earlier one, is replaced by a random one
        wrong = ~jnp.all(jnp.isfinite(points), axis=1) | self._repeated(state, points)
        points = jnp.where(wrong[:, None], raw[: self.batch], points)
        lost = self._lost(state)
        points = jnp.where(lost, self._design(k_raw)[: self.batch], points)
        usable = ~lost & jnp.all(
            jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(h)])
        )
        h = jax.tree.map(lambda new, old: jnp.where(usable, new, old), h, state.hyperparameters)
        return points, h

    def _repeated(self, state: TurboState, points: Array) -> Bool[Array, " batch"]:
        """Which points were evaluated before, or come earlier in the batch."""
        known = jnp.arange(self.capacity) < state.count
        before = jnp.all(points[:, None] == state.x, axis=2) & known
        same = jnp.all(points[:, None] == points, axis=2)
        earlier = jnp.tril(same, -1)
        return jnp.any(before, axis=1) | jnp.any(earlier, axis=1)

    def _surrogate(
        self, state: TurboState, centre: Float[Array, " d"]
    ) -> tuple[Surrogate, Float[Array, ""]]:
        """The surrogate around the centre, and the best score among its data."""
        options = self.options
        size = min(options.training_points, self.capacity)
        known = (jnp.arange(self.capacity) < state.count) & jnp.all(jnp.isfinite(state.x), axis=1)
        distance = jnp.sum((state.x - centre) ** 2, axis=1)
        _, nearest = jax.lax.top_k(-jnp.where(known, distance, jnp.inf), size)
        mask = known[nearest]
        x, y = state.x[nearest], state.y[nearest]
        finite = mask & jnp.isfinite(y)
        # a failed evaluation counts as bad as the worst, so that the search turns away from it
        y = jnp.where(finite, y, jnp.max(jnp.where(finite, y, -jnp.inf)))
        if options.output == "log":
            y = jnp.log(jnp.maximum(y, 1e-300))
        share = state.region.length / options.region.initial_length
        extent = share if options.local_lengthscales else 1.0
        # a fresh fit starts from the prior, a warm one from the last
        start = jax.tree.map(
            lambda a, b: jnp.where(state.refit, a, b),
            options.prior.start(self.dimensions, extent),
            state.hyperparameters,
        )
        calls = jnp.where(state.refit, options.first_fit_calls, options.fit_calls)
        if options.surrogate == "composite":
            worst = nearest[jnp.argmax(jnp.where(finite, y, -jnp.inf))]
            source = jnp.where(finite, nearest, worst)
            residuals = jnp.where(mask[:, None], state.residuals[source], 0.0)
            count = min(options.components, size)
            scores, offset, scale, floor = principal_components(residuals, mask, count)
            h = gp.fit(x, scores, mask, start, options.prior, calls, extent=extent)
            posterior = gp.condition(x, scores, mask, h)
            surrogate: Surrogate = CompositeSurrogate(posterior, offset, scale, floor)
            best = jnp.max(jnp.where(mask, surrogate.score(scores), -jnp.inf))
            return surrogate, best
        largest = jnp.max(jnp.where(mask, jnp.abs(y), 0.0))
        y = jnp.where(largest > LARGE_VALUE, y / largest, y)
        number = jnp.maximum(jnp.sum(mask), 2)
        mean = jnp.sum(jnp.where(mask, y, 0.0)) / number
        variance = jnp.sum(jnp.where(mask, (y - mean) ** 2, 0.0)) / (number - 1)
        target = ((y - mean) / jnp.sqrt(jnp.maximum(variance, 1e-30)))[:, None]
        model = surrogate_gpjax if options.surrogate == "gpjax" else gp
        h = model.fit(x, target, mask, start, options.prior, calls, extent=extent)
        surrogate = ScalarSurrogate(model.condition(x, target, mask, h))
        return surrogate, jnp.max(jnp.where(mask, -target[:, 0], -jnp.inf))

    def _raw_points(
        self, key: PRNGKeyArray, centre: Array, low: Array, high: Array
    ) -> Float[Array, "raw d"]:
        """Uniform points in the box, of which all but the first half keep most coordinates of the
        centre (TuRBO's perturbation, probability min(20 / d, 1) of a change)."""
        k_uniform, k_mask, k_one = jax.random.split(key, 3)
        number, d = self.options.effort.raw_points, self.dimensions
        uniform = jax.random.uniform(k_uniform, (number, d), jnp.float64, low, high)
        share = jnp.linspace(1.0, min(5.0 / d, 1.0), number)[:, None]
        change = jax.random.uniform(k_mask, (number, d)) < share
        one = jax.nn.one_hot(jax.random.randint(k_one, (number,), 0, d), d, dtype=bool)
        return jnp.where(change | one, uniform, centre)
