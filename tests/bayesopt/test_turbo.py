"""The optimizer as a whole, on black boxes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.bayesopt.acquisition import Effort
from qhrtem_jax.bayesopt.trust_region import TrustRegionOptions
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions

SMALL = TurboOptions(
    output="log", training_points=48, first_fit_calls=30, effort=Effort(64, 2, 12, 16)
)
# shared, as each compiles once: a test that needs less ends before the budget is spent
TURBO = Turbo(5, 4, 80, options=SMALL)
CENTRE = np.array([0.3, 0.7, 0.45, 0.55, 0.2])


def composite(acquisition):
    options = dataclasses.replace(
        SMALL, acquisition=acquisition, surrogate="composite", components=8
    )
    return Turbo(5, 4, 48, outputs=10, options=options)


def bowl(x):
    return 1e-3 + np.sum((np.asarray(x) - CENTRE) ** 2, axis=1)


def optimise(turbo, objective, seed=0, residuals=None, evaluations=None):
    key = jax.random.key(seed)
    state = turbo.init(jax.random.fold_in(key, 10_000))
    infos = []
    for k in range((evaluations or turbo.capacity) // turbo.batch):
        points, state = turbo.ask(state, jax.random.fold_in(key, k))
        extra = None if residuals is None else jnp.asarray(residuals(np.asarray(points)))
        state, info = turbo.tell(state, points, jnp.asarray(objective(points)), extra)
        infos.append(info)
    return state, infos


@pytest.mark.parametrize("acquisition", ["qucb", "thompson"])
def test_finds_the_minimum(acquisition):
    turbo = Turbo(5, 4, 80, options=dataclasses.replace(SMALL, acquisition=acquisition))
    state, infos = optimise(turbo, bowl)
    best, value = state.best()
    assert float(value) < 6e-3
    assert int(infos[-1].evaluations) == 80
    assert np.all((state.x >= 0.0) & (state.x <= 1.0))
    assert float(value) == pytest.approx(bowl(np.asarray(best)[None])[0])


@pytest.mark.parametrize("acquisition", ["thompson", "qucb"])
def test_composite_needs_fewer_evaluations(acquisition):
    def residuals(x):
        u = np.asarray(x) - CENTRE
        return np.concatenate([u, 0.3 * np.sin(3 * u)], axis=1)

    def objective(x):
        return np.sum(residuals(x) ** 2, axis=1) + 1e-12

    state, _ = optimise(composite(acquisition), objective, residuals=residuals)
    scalar, _ = optimise(TURBO, objective, evaluations=48)
    assert float(state.best()[1]) < 1e-3
    assert float(state.best()[1]) < float(scalar.best()[1])


def test_failed_evaluations_survive():
    def sometimes(x):
        values = bowl(x)
        values[np.asarray(x)[:, 0] > 0.6] = np.nan
        return values

    state, infos = optimise(TURBO, sometimes)
    assert np.isnan(state.y[: int(state.count)]).any()
    assert float(state.best()[1]) < 1e-2
    assert np.all(np.isfinite(state.x))
    late = np.concatenate([np.asarray(i.values) for i in infos[-8:]])
    assert np.isnan(late).mean() < 0.3, "the search must turn away from where evaluations fail"


def test_collapse_restarts_warm():
    options = dataclasses.replace(
        SMALL,
        initial_points=8,
        region=TrustRegionOptions(minimum_length=0.3, failures_to_shrink=1),
    )
    turbo = Turbo(3, 4, 64, options=options)
    state, infos = optimise(turbo, lambda x: np.ones(len(x)))
    assert int(state.restarts) >= 1
    assert float(state.beta) == pytest.approx(0.25 * 4.0 ** int(state.restarts))
    assert int(state.count) == 64
    assert np.all(np.isfinite(state.y)), "all points are kept"
    assert int(state.cycle_start) > 0
    # half of 0.4 is below the least length, so the region starts again at its first one
    assert {float(info.length) for info in infos} == {0.8, 0.4}


def test_same_seed_same_points_other_seed_others():
    first, second, other = (optimise(TURBO, bowl, seed, None, 40)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, second.x)
    assert not np.allclose(first.x, other.x)


def test_compiles_once_while_the_data_grow():
    turbo = Turbo(4, 4, 48, options=SMALL)
    centre = jnp.asarray(CENTRE[:4])

    @eqx.debug.assert_max_traces(max_traces=1)
    def counted(state, key):
        evaluate = lambda x: (jnp.sum((x - centre) ** 2, axis=1) + 1e-3, None)  # noqa: E731
        return turbo.step(evaluate, state, key)

    step = eqx.filter_jit(counted)
    key = jax.random.key(0)
    state = turbo.init(key)
    for k in range(12):
        state, info = step(state, jax.random.fold_in(key, k))
    assert int(info.evaluations) == 48
    assert float(info.best_value) < 0.05


def test_length_scales_follow_the_trust_region_where_data_say_nothing():
    found = []
    for local in (True, False):
        options = dataclasses.replace(SMALL, initial_points=4, local_lengthscales=local)
        turbo = Turbo(5, 4, 80, options=options)
        state, _ = optimise(turbo, lambda x: np.full(len(x), 0.5), evaluations=4)
        small = 0.1 * state.region.length
        state = eqx.tree_at(lambda s: s.region.length, state, small)
        _, state = turbo.ask(state, jax.random.key(1))
        found.append(np.exp(np.median(state.hyperparameters.log_lengthscale)))
    median = options.prior.lengthscale(5)
    assert found[0] == pytest.approx(0.1 * median, rel=0.2)
    assert found[1] > median  # equal values speak for a flat function


def test_options_are_checked():
    with pytest.raises(ValueError, match="acquisition"):
        TurboOptions(acquisition="magic")
    with pytest.raises(ValueError, match="composite"):
        Turbo(3, 4, 32, options=TurboOptions(surrogate="composite"))


def test_a_batch_beyond_the_budget_is_left_out():
    turbo = Turbo(2, 4, 14, options=SMALL)  # holds 12
    state = turbo.init(jax.random.key(0))
    key = jax.random.key(1)
    for k in range(3):
        points = jax.random.uniform(jax.random.fold_in(key, k), (4, 2), jnp.float64)
        values = jnp.arange(4.0) + (1.0 if k < 2 else 0.0)  # the best one is in the last batch
        state, info = turbo.tell(state, points, values)
        assert bool(info.accepted)
    best = state.best()
    again, info = turbo.tell(state, jnp.full((4, 2), 0.5), jnp.full(4, 9.0))
    assert not bool(info.accepted)
    assert int(info.evaluations) == 12
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(again.best()[0], best[0])
    assert float(again.best()[1]) == float(best[1]) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failures_alone_bring_new_points(bad):
    state, infos = optimise(TURBO, lambda x: np.full(len(x), bad))
    asked = np.concatenate([np.asarray(info.points) for info in infos])
    assert np.all(np.isfinite(asked))
    assert np.all((asked >= 0.0) & (asked <= 1.0))
    assert len(np.unique(asked, axis=0)) == len(asked) == TURBO.capacity
    # with nothing known, the search covers the whole cube
    assert np.all(np.ptp(asked[TURBO.initial_points :], axis=0) > 0.8)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.hyperparameters))
    assert np.all(np.isfinite(state.x))
    assert not np.isfinite(state.best()[1])


def test_the_search_recovers_when_the_whole_design_failed():
    calls = []

    def late(x):
        calls.append(len(x))
        return bowl(x) if sum(calls) > TURBO.initial_points + 8 else np.full(len(x), np.nan)

    state, _ = optimise(TURBO, late)
    assert float(state.best()[1]) < 2e-2


@pytest.mark.parametrize("output", ["log", "standardised"])
@pytest.mark.parametrize("kind", ["constant", "large", "zero", "mixed"])
def test_values_without_a_scale_survive(kind, output):
    def objective(x):
        first = np.asarray(x)[:, 0]
        if kind == "mixed":
            values = bowl(x)
            values[:3] = 1e308, -np.inf, np.nan
            return values
        constant = {"constant": 3.0, "zero": 0.0, "large": 1e307}[kind]
        return constant + (9e307 * first if kind == "large" else 0.0 * first)

    turbo = Turbo(5, 4, 80, options=dataclasses.replace(SMALL, output=output))
    state, infos = optimise(turbo, objective, evaluations=36)
    asked = np.concatenate([np.asarray(info.points) for info in infos])
    assert np.all(np.isfinite(asked))
    assert len(np.unique(asked, axis=0)) == len(asked)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.hyperparameters))
    assert np.isfinite(state.best()[1])


def test_constant_residuals_survive():
    state, infos = optimise(
        composite("qucb"),
        lambda x: np.full(len(x), 10.0),
        residuals=lambda x: np.ones((len(x), 10)),
        evaluations=36,
    )
    asked = np.concatenate([np.asarray(info.points) for info in infos])
    assert np.all(np.isfinite(asked))
    assert len(np.unique(asked, axis=0)) == len(asked)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.hyperparameters))
