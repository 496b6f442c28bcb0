"""Each frame of a series fitted from where the one before ended.

The microscope stays what it is: aberrations, coherence and camera are those of the first frame,
then those of all frames together. Focus and tilt move from frame to frame, and the specimen drifts
over the pixels; columns may move, and numbers are held until all frames have been seen.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.counting import search_around
from qhrtem_jax.field.linear import linearise
from qhrtem_jax.field.model import FieldModel, JointState, field_model, weights, whole_numbers
from qhrtem_jax.field.relaxation import again
from qhrtem_jax.field.simulate import snapped
from qhrtem_jax.field.sweep import fixed, pool
from qhrtem_jax.field.trials import settle
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.bounds import PointBounds
from qhrtem_jax.refine.integer_least_squares import IntegerModel

TILTS = ("tilt_x", "tilt_y")

MOVES = ("absorption", "A0_x", "A0_y", "C1", *TILTS)
"""Imaging parameters that are free in every frame."""

C1 = INDEX["C1"]
SHIFT, TILT = ([INDEX[f"{name}_{axis}"] for axis in "xy"] for name in ("A0", "tilt"))

TILT_WALK_MRAD = 0.3
"""Deviation by which the tilt changes from one frame to the next: in one image of a thin crystal it
trades against the shift of the whole."""

SWEEPS = 2
"""Of each frame, from where the one before ended."""


LATER_SWEEPS = 1
"""With the microscope of all frames, which is nearly the first one's."""


@dataclasses.dataclass(frozen=True)
class FrameFit:
    """A frame: its model, where its fit stands, and whole numbers around that."""

    model: FieldModel
    state: JointState
    integers: IntegerModel


def walking(model: FieldModel, before: JointState) -> FieldModel:
    """The model of a field whose tilt is about that of the frame `before`."""
    return _about(model, before, model.regions.bounds)


def steady(model: FieldModel, before: JointState) -> FieldModel:
    """The same, whose microscope is known but for what moves between frames."""
    known = model.regions.bounds
    bounds = dataclasses.replace(known, imaging=tuple(known.free_names(MOVES)), camera=())
    return _about(model, before, bounds)


def _about(model: FieldModel, before: JointState, bounds: PointBounds) -> FieldModel:
    """With priors of the tilt, about that of the frame `before`."""
    regions, known = model.regions, model.regions.bounds
    others = tuple(name for name in bounds.imaging if name not in TILTS)
    bounds = dataclasses.replace(bounds, imaging=others)
    for name in known.free_names(TILTS):
        at = INDEX[name]
        mean = float(before.points[0, at])
        bounds = bounds.with_imaging(name, known.low[at], known.high[at], mean, TILT_WALK_MRAD)
    return field_model(dataclasses.replace(regions, bounds=bounds))


def follow_frame(
    model: FieldModel,
    before: JointState,
    moved_nm: Float[np.ndarray, " 2"],
    journal: Journal,
    phase: str,
) -> JointState:
    """Fit a frame (the image of `model`) from the state of the one `before`, against which its
    image is shifted by `moved_nm` (x, y); numbers and microscope as they are."""
    here = steady(model, before)
    points = snapped(here, before)
    points[:, SHIFT] += moved_nm
    known = weights(here, before.weights.noise)  # where it grows, with this frame's intensity
    state = dataclasses.replace(before, points=points, weights=known, system=None)
    return again(here, state, journal, phase, fixed(state, whole=True), SWEEPS)


def count_frame(
    model: FieldModel, state: JointState, before: JointState, journal: Journal, phase: str
) -> FrameFit:
    """A frame whose microscope is that of all frames, fitted again, and its numbers; `before`: the
    frame before it."""
    here = steady(model, before)
    state = again(here, state, journal, phase, fixed(state, whole=True), LATER_SWEEPS)
    linear = linearise(here, state, journal)
    state, _ = settle(linear, state, journal, phase)
    return FrameFit(here, state, search_around(linear, state, journal).integers)


def with_numbers(
    fit: FrameFit, numbers: Float[np.ndarray, "regions chains"], journal: Journal, phase: str
) -> JointState:
    """The frame's state with `numbers`, everything else at its best, and the normal equations of
    its regions."""
    model, state, counts = fit.model, fit.state, fit.model.layout.counts
    if np.any(numbers != whole_numbers(model, state)):
        points = state.points.copy()
        points[:, counts] = numbers
        state = dataclasses.replace(state, points=points, system=None)
        state = again(model, state, journal, phase, fixed(state, whole=True), SWEEPS)
    return pool(model, state, journal, fixed(state, whole=True))
