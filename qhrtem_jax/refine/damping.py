"""The one loop of damped steps: propose, accept what lowers the objective, change the damping.

The same function serves compiled programs (`loop=jax.lax.while_loop`, vmapped too) and steps that
are taken one by one from the host (`loop=on_host`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

Best = TypeVar("Best")
Scalar = Any  # float on the host, Float[Array, ""] within a compiled program

Propose = Callable[[Best, Scalar], tuple[Best, Scalar, Scalar]]
"""(where one stands, damping) -> (a trial, its objective, the fall of it that was foretold)."""


class Descent(eqx.Module, Generic[Best]):
    """Where the steps stand."""

    best: Best  # what was accepted last
    objective: Scalar
    damping: Scalar
    tried: Scalar
    accepted: Scalar
    refused: Scalar  # in a row
    fall: Scalar  # of the objective in the last accepted step
    gain: Scalar  # fall of the last trial over what was foretold


@runtime_checkable
class Rule(Protocol):
    """How damping changes."""

    def accepted(self, damping: Scalar, gain: Scalar) -> Scalar:
        """After a step that lowered the objective."""
        ...

    def refused(self, damping: Scalar, before: Scalar) -> Scalar:
        """After a step that did not, as `before` others in a row."""
        ...


@dataclasses.dataclass(frozen=True)
class Marquardt:
    """Fixed factors: damping falls by `ease`, not below `least`, and grows by `tighten`."""

    ease: float
    tighten: float
    least: float

    def accepted(self, damping: Scalar, gain: Scalar) -> Scalar:
        return max(damping / self.ease, self.least)

    def refused(self, damping: Scalar, before: Scalar) -> Scalar:
        return damping * self.tighten


@dataclasses.dataclass(frozen=True)
class Halving:
    """Shares of a step in place of a damping: the whole, then half of it, and so on."""

    def accepted(self, damping: Scalar, gain: Scalar) -> Scalar:
        return 1.0

    def refused(self, damping: Scalar, before: Scalar) -> Scalar:
        return 0.5 * damping


@dataclasses.dataclass(frozen=True)
class Nielsen:
    """By the gain ratio (Madsen, Nielsen, Tingleff, "Methods for non-linear least squares
    problems", 2004, section 3.2)."""

    def accepted(self, damping: Scalar, gain: Scalar) -> Scalar:
        factor = 1.0 - (2.0 * jnp.clip(gain, 0.0, 1.0) - 1.0) ** 3
        return damping * jnp.maximum(1.0 / 3.0, factor)

    def refused(self, damping: Scalar, before: Scalar) -> Scalar:
        return damping * jnp.asarray(2.0 ** (before + 1), jnp.result_type(damping))


def begin(best: Best, objective: Scalar, damping: Scalar) -> Descent[Best]:
    """Before the first step."""
    if isinstance(objective, jax.Array):
        none, zero = jnp.int32(0), jnp.zeros_like(objective)
    else:
        none, zero = 0, 0.0
    return Descent(best, objective, damping, none, none, none, zero, zero)


def trial(state: Descent[Best], propose: Propose[Best], rule: Rule) -> Descent[Best]:
    """One trial step; what is not finite is refused."""
    found, objective, foretold = propose(state.best, state.damping)
    better = objective < state.objective
    fall = state.objective - objective
    gain = fall / foretold
    return Descent(
        best=_choose(better, found, state.best),
        objective=_choose(better, objective, state.objective),
        damping=_choose(
            better,
            rule.accepted(state.damping, gain),
            rule.refused(state.damping, state.refused),
        ),
        tried=state.tried + 1,
        accepted=_choose(better, state.accepted + 1, state.accepted),
        refused=_choose(better, 0 * state.refused, state.refused + 1),
        fall=_choose(better, fall, state.fall),
        gain=gain,
    )


def on_host(go_on: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    """`jax.lax.while_loop`, in Python."""
    while go_on(state):
        state = body(state)
    return state


def descend(
    state: Descent[Best],
    propose: Propose[Best],
    rule: Rule,
    go_on: Callable[[Descent[Best]], Any],
    loop: Callable[..., Any] = on_host,
) -> Descent[Best]:
    """Trial steps while `go_on` says so."""
    return loop(go_on, lambda s: trial(s, propose, rule), state)


def _choose(better: Any, new: Any, old: Any) -> Any:
    if isinstance(better, bool | np.bool_):
        return new if better else old
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
