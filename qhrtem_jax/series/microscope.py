"""The microscope of a series: what stays the same in all frames, from all of them.

The normal equations of each frame, with what is its own (columns, shifts of the regions, focus and
tilt) at its best, add up. One Gauss-Newton step suffices, since the first frame says nearly the
same.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.model import FieldModel, JointState, free_coordinates
from qhrtem_jax.field.sweep import fixed, pool
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.weights import ErrorScale
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.pooled import ArrowSystem
from qhrtem_jax.reporting.column_tables import point_names

MOVING = tuple(INDEX[name] for name in ("C1", "tilt_x", "tilt_y"))
"""What all regions share and each frame has for itself."""


@dataclasses.dataclass(frozen=True)
class Microscope:
    """The step from the first frame's microscope to that of all frames, in the unit cube of the
    coordinates `index` of a point, and the covariance of these there."""

    index: tuple[int, ...]
    step: Float[np.ndarray, " common"]
    covariance: Float[np.ndarray, "common common"]


def microscope_of(
    models: list[FieldModel], states: list[JointState], journal: Journal
) -> Microscope:
    """From frames whose microscope is the first one's; `models`: with all of it free."""
    found = free_coordinates(models[0], states[0])
    systems = []
    for model, state in zip(models, states, strict=True):
        afresh = dataclasses.replace(state, system=None)
        pooled = pool(model, afresh, journal, fixed(state, whole=True))
        systems.append(pooled.normal_equations)
    return from_frames(found.coordinates.free[found.own :], systems)


def from_frames(shared: tuple[int, ...], systems: list[ArrowSystem]) -> Microscope:
    """From the normal equations of frames, whose shared coordinates are at `shared` in a point;
    priors of what is common to all frames count once."""
    moving = np.isin(shared, MOVING)
    common = ~moving & np.all([s.shared_active for s in systems], axis=0)
    hessian = np.diag(systems[0].shared_precision[common])
    slope = systems[0].shared_pull[common]
    for system in systems:
        more, along = _without_moving(system, moving, common)
        hessian, slope = hessian + more, slope + along
    covariance = np.linalg.pinv(hessian, hermitian=True)
    index = tuple(int(n) for n in np.array(shared)[common])
    return Microscope(index, -covariance @ slope, covariance)


def _without_moving(
    system: ArrowSystem, moving: np.ndarray, common: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(half the Hessian, half the gradient) by what is `common`, what moves at its best."""
    hessian, slope = system.of_shared()
    free = moving & system.shared_active
    inner = hessian[np.ix_(free, free)] + np.diag(system.shared_precision[free])
    across = np.linalg.solve(inner, hessian[np.ix_(free, common)])
    pull = slope[free] + system.shared_pull[free]
    return (
        hessian[np.ix_(common, common)] - hessian[np.ix_(common, free)] @ across,
        slope[common] - across.T @ pull,
    )


def with_microscope(model: FieldModel, state: JointState, found: Microscope) -> JointState:
    """The state with the microscope of all frames; `model`: with all of it free."""
    points = taken(free_coordinates(model, state).coordinates, state.points, found)
    return dataclasses.replace(state, points=points, system=None)


def taken(
    coordinates: Coordinates, points: Float[np.ndarray, "regions point"], found: Microscope
) -> Float[np.ndarray, "regions point"]:
    """Points after the step, within the bounds of the coordinates."""
    unit = coordinates.host().to_unit(points)
    at = [coordinates.free.index(index) for index in found.index]
    unit[:, at] = np.clip(unit[:, at] + found.step, 0.0, 1.0)
    return coordinates.host().place(points, unit)


Errors = dict[str, float | None]


def microscope_errors(
    model: FieldModel, found: Microscope, scale: ErrorScale
) -> tuple[Errors, Errors]:
    """(errors from the noise alone, errors scaled by the misfit) of what stays the same, by name;
    `scale`, that of the first frame."""
    joint, names = model.joint.coordinates, point_names(model.columns, model.layout)
    width = joint.host().width[[joint.free.index(index) for index in found.index]]
    std = np.sqrt(np.maximum(np.diagonal(found.covariance), 0.0)) * width * scale.noise
    of_noise: Errors = {names[n]: float(s) for n, s in zip(found.index, std, strict=True)}
    return of_noise, {name: None if s is None else s * scale.misfit for name, s in of_noise.items()}
