"""Where the joint fit of a field stands, kept in the run's folder: it can go on from there."""

import dataclasses
import json
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from qhrtem_jax.field.model import FieldModel, JointState, field_model, weights
from qhrtem_jax.field.simulate import stack_at
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.speckle import Speckle
from qhrtem_jax.refine.pooled import ArrowSystem
from qhrtem_jax.refine.unknown_cells import UnknownCells
from qhrtem_jax.regions.model import with_entrance


@dataclasses.dataclass(frozen=True)
class Standing:
    """`done` steps of the fit, and the model and the state after them."""

    model: FieldModel
    state: JointState
    done: int = 0


def save(standing: Standing, journal: Journal) -> None:
    """Keep it, and the history until here."""
    journal.folder.write_checkpoint(content(standing, journal))


def content(standing: Standing, journal: Journal) -> Arrays:
    """What a checkpoint of it holds."""
    model, state = standing.model, standing.state
    noise, system = state.weights.noise, state.system
    scalars = {
        "done": standing.done,
        "entrance": model.sites.entrance,
        "units": state.stack.units,
        "damping": float(state.damping),
        "settled": state.settled,
        "noise": [noise.variance, list(noise.lags), noise.source, noise.growth],
    }
    arrays: Arrays = {
        "scalars": np.array(json.dumps(scalars)),
        "history": journal.history(),
        "points": state.points,
        "heights": state.stack.heights,
        "begins": state.stack.begins,
        "first": np.asarray(state.first),
        "unknown_numbers": np.asarray(state.unknown.numbers),
        "unknown_shifts": np.asarray(state.unknown.shifts),
    }
    if noise.speckle is not None:
        arrays |= _fields("speckle", noise.speckle)
    if system is not None:
        arrays |= _fields("system", system)
    return arrays


def restored(begun: Standing, journal: Journal) -> Standing:
    """Where an interrupted run stood, whose history the journal takes over; `begun`, where there is
    none, or where this one does not resume."""
    resumes = begun.model.problem.settings.resume
    saved = journal.folder.read_checkpoint() if resumes else None
    if saved is None:
        return begun
    if "system_active" in saved:  # earlier versions did not tell what is free and at a bound
        saved.setdefault("system_free", saved["system_active"])
    known = json.loads(str(saved["scalars"]))
    journal.resume(saved["history"])
    model = begun.model
    if known["entrance"] != model.sites.entrance:
        model = field_model(with_entrance(model.regions, known["entrance"]))
    variance, lags, source, growth = known["noise"]
    speckle = _of(Speckle, "speckle", saved)
    flat = np.zeros((len(saved["points"]), model.layout.chains), dtype=int)
    state = JointState(
        saved["points"],
        stack_at(model, saved["heights"], saved.get("begins", flat), known["units"]),
        weights(model, NoiseModel(variance, tuple(lags), source, speckle, growth)),
        saved["first"],
        UnknownCells(jnp.asarray(saved["unknown_numbers"]), jnp.asarray(saved["unknown_shifts"])),
        known["damping"],
        known["settled"],
        _of(ArrowSystem, "system", saved),
    )
    return Standing(model, state, known["done"])


Kept = TypeVar("Kept", Speckle, ArrowSystem)


def _fields(name: str, value: Speckle | ArrowSystem) -> Arrays:
    return {
        f"{name}_{field.name}": np.asarray(getattr(value, field.name))
        for field in dataclasses.fields(value)
    }


def _of(kind: type[Kept], name: str, saved: Arrays) -> Kept | None:
    """What `_fields` made arrays of; None where that was not there."""
    head = f"{name}_"
    found = {k.removeprefix(head): value for k, value in saved.items() if k.startswith(head)}
    return kind(**found) if found else None
