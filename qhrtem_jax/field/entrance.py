"""With which of its atomic planes a crystal begins.

A cell says in which order planes follow each other, not which of them the beam meets first. Another
beginning puts some columns a repeating unit deeper than others. Relaxed numbers make up for nearly
all of it, whole ones do not: those tell beginnings apart.
"""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.field.model import FieldModel, JointState, field_model, weights
from qhrtem_jax.field.relaxation import again, surest_numbers
from qhrtem_jax.field.simulate import C1, objective, snapped, stack_of
from qhrtem_jax.field.sweep import Fixed
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.regions.model import with_entrance

log = logging.getLogger(__name__)

ROUNDS = 2
"""Of sweeps with relaxed numbers behind another beginning."""

PROMISING = 15.0
"""Beginnings that are worse than the best by less than so much chi-square for each region, with
relaxed numbers, are looked at with whole ones."""

LEAST_GAIN = 5.0
"""Another beginning must lower the objective by more."""


def best_entrance(
    model: FieldModel, state: JointState, journal: Journal, relaxed: Fixed
) -> tuple[FieldModel, JointState]:
    """The model and the state, numbers relaxed, with the beginning whose whole numbers explain most
    of the image, where none is given. The heights of the state are settled; `relaxed`: no number is
    fixed."""
    if not model.problem.settings.specimen.entrance_sought:
        return model, state
    present = model.sites.entrance
    trials = {present: (model, state)}
    for plane in sorted({s for chain in model.columns.chains for s in chain.slices} - {present}):
        its_model, begun = begin(model, state, plane)
        phase = f"first plane {plane}"
        # pixels keep their weights, so that chi-squares can be compared
        found = again(its_model, begun, journal, phase, relaxed, ROUNDS, weigh=False)
        trials[plane] = its_model, found
    values = {plane: objective(*trial, journal) for plane, trial in trials.items()}
    least = min(values.values()) + PROMISING * len(state.points)
    whole = {present: np.inf}
    for plane in [plane for plane in trials if plane == present or values[plane] < least]:
        its_model, its_state = trials[plane]
        phase = f"first plane {plane}, whole numbers"
        found = again(its_model, surest_numbers(its_model, its_state), journal, phase, ~relaxed)
        whole[plane] = objective(its_model, found, journal)
    text = ", ".join(f"{plane}: {value:.1f}" for plane, value in sorted(whole.items()))
    log.info("chi-square of whole numbers by the plane that the crystal begins with: %s", text)
    plane = min(whole, key=lambda k: whole[k])
    return trials[plane if whole[plane] < whole[present] - LEAST_GAIN else present]


def begin(model: FieldModel, state: JointState, plane: int) -> tuple[FieldModel, JointState]:
    """The model and the state with a crystal that begins with the slice `plane`, its middle where
    it was. The heights of the state are settled."""
    before = model.sites.entrance
    model = field_model(with_entrance(model.regions, plane))
    points, columns = snapped(model, state), model.columns
    deeper = [
        np.mean([float(s < plane) - float(s < before) for s in chain.slices])
        for chain in columns.chains
    ]
    points[:, C1] += float(np.mean(deeper)) * columns.size_nm[2]
    stack = stack_of(model, points, state.stack)
    known = weights(model, state.weights.noise)  # the least squares of these crystals
    return model, dataclasses.replace(state, points=points, stack=stack, weights=known, system=None)
