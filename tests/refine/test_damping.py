"""The loop of damped steps, on the host and compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.refine.damping import Halving, Marquardt, Nielsen, begin, descend, trial

RULE = Marquardt(ease=5.0, tighten=10.0, least=1e-2)


def refused(state, damping):
    return state, np.inf, 1.0


def test_refused_steps_tighten_and_change_nothing():
    state = begin("here", 3.0, 1.0)
    for objective in (3.0, np.inf, np.nan, 4.0):
        after = trial(state, lambda best, damping, o=objective: ("there", o, 1.0), RULE)
        assert (after.best, after.objective, after.damping) == ("here", 3.0, 10.0)
        assert (after.tried, after.accepted, after.refused) == (1, 0, 1)
    again = trial(after, refused, RULE)
    assert (again.damping, again.refused) == (100.0, 2)


def test_accepted_steps_ease_down_to_the_least():
    state = trial(begin("here", 3.0, 1.0), refused, RULE)
    state = trial(state, lambda best, damping: ("there", 2.0, 4.0), RULE)
    assert (state.best, state.objective, state.damping) == ("there", 2.0, 2.0)
    assert (state.accepted, state.refused, state.fall, state.gain) == (1, 0, 1.0, 0.25)
    state = begin("there", 2.0, 0.03)
    assert trial(state, lambda best, damping: ("there", 1.0, 1.0), RULE).damping == RULE.least


def test_nielsen_follows_the_gain():
    rule = Nielsen()
    assert float(rule.accepted(3.0, 1.0)) == pytest.approx(1.0)  # as foretold: a third
    assert float(rule.accepted(3.0, 0.5)) == pytest.approx(3.0)
    assert float(rule.accepted(3.0, 0.0)) == pytest.approx(6.0)
    assert [float(rule.refused(1.0, k)) for k in range(3)] == [2.0, 4.0, 8.0]
    single = rule.refused(jnp.float32(1.0), jnp.int32(2))
    assert (float(single), single.dtype) == (8.0, jnp.float32)


def test_a_step_that_does_not_help_is_halved():
    """A step thrice too long: all of it overshoots, half of it does not."""
    tried = []

    def propose(x, share):
        tried.append(share)
        trial = x - 3.0 * share * x
        return trial, trial**2, 1.0

    end = descend(begin(1.0, 1.0, 1.0), propose, Halving(), lambda s: s.accepted < 2)
    assert tried == [1.0, 0.5, 1.0, 0.5]
    assert end.best == pytest.approx(0.25)


def test_host_and_compiled_program_take_the_same_steps():
    """A banana-shaped valley, by damped Newton steps whose first ones overshoot."""

    def objective(x):
        return (1.0 - x[0]) ** 2 + 20.0 * (x[1] - x[0] ** 2) ** 2

    def propose(x, damping):
        slope, hessian = jax.grad(objective)(x), jax.hessian(objective)(x)
        move = -jnp.linalg.solve(hessian + damping * jnp.eye(2), slope)
        return x + move, objective(x + move), -slope @ move

    def go_on(state):
        return (state.objective > 1e-12) & (state.tried < 100)

    start = jnp.array([-1.2, 1.0])

    def found(x, loop):
        return descend(begin(x, objective(x), jnp.array(1e-3)), propose, Nielsen(), go_on, loop)

    compiled = jax.jit(jax.vmap(lambda x: found(x, jax.lax.while_loop)))(jnp.stack([start, -start]))

    def on_host(x):
        return descend(
            begin(x, float(objective(x)), 1e-3),
            lambda here, damping: (lambda t: (t[0], float(t[1]), float(t[2])))(
                propose(here, damping)
            ),
            Nielsen(),
            go_on,
        )

    for k, x in enumerate((start, -start)):
        alone = on_host(x)
        assert int(alone.tried) == int(compiled.tried[k]) >= int(compiled.accepted[k]) > 3
        np.testing.assert_allclose(alone.best, compiled.best[k], atol=1e-8)
        np.testing.assert_allclose(alone.best, 1.0, atol=1e-5)
    assert np.any(np.asarray(compiled.tried) > np.asarray(compiled.accepted)), "none was refused"
