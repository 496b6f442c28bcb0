"""Frames that were followed, kept beside the fit of the first: an interrupted series goes on behind
them."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.field.checkpoint import Standing, content, restored
from qhrtem_jax.field.model import FieldModel, JointState, weights
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.refine.unknown_cells import UnknownCells
from qhrtem_jax.series.frames import steady

HEAD = "frames_"


@dataclasses.dataclass(frozen=True)
class Followed:
    """The first frame as a field, `seconds` after the run had begun, and the `states` of the frames
    that were followed from there."""

    first: Standing
    seconds: float
    states: tuple[JointState, ...] = ()

    def and_then(self, state: JointState) -> "Followed":
        """With one frame more."""
        return dataclasses.replace(self, states=(*self.states, state))


def save(followed: Followed, journal: Journal) -> None:
    """Keep it, and the history until here."""
    states = followed.states
    frames: Arrays = {
        "seconds": np.array(followed.seconds),
        "points": np.array([s.points for s in states]),
        "numbers": np.array([s.unknown.numbers for s in states]),
        "shifts": np.array([s.unknown.shifts for s in states]),
        "damping": np.array([s.damping for s in states], float),
    }
    named = {f"{HEAD}{name}": value for name, value in frames.items()}
    journal.folder.write_checkpoint(content(followed.first, journal) | named)


def followed_before(begun: Standing, journal: Journal) -> Followed | None:
    """What an interrupted run had followed, whose history the journal takes over; None where it had
    not come so far, or this one does not resume."""
    resumes = begun.model.problem.settings.resume
    saved = (journal.folder.read_checkpoint() if resumes else None) or {}
    if f"{HEAD}seconds" not in saved:
        return None
    again = journal.seconds  # to begin anew does not count as time for frames
    first = restored(begun, journal)
    state, kept = first.state, [saved[f"{HEAD}{name}"] for name in _OF_A_FRAME]
    states = []
    for points, numbers, shifts, damping in zip(*kept, strict=True):
        unknown = UnknownCells(jnp.asarray(numbers), jnp.asarray(shifts))
        state = dataclasses.replace(
            state, points=points, unknown=unknown, damping=float(damping), system=None
        )
        states.append(state)
    return Followed(first, float(saved[f"{HEAD}seconds"]) + again, tuple(states))


_OF_A_FRAME = ("points", "numbers", "shifts", "damping")


def weighed(frame: FieldModel, state: JointState, before: JointState) -> JointState:
    """A state that was kept, whose pixels weigh as those of its frame do."""
    here = steady(frame, before)
    return dataclasses.replace(state, weights=weights(here, before.weights.noise))
