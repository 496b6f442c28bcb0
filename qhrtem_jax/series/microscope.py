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
from qhrtem_jax.refine.uncertainty import determined_std, known_without_image

MOVING = tuple(INDEX[name] for name in ("C1", "tilt_x", "tilt_y"))
"""What all regions share and each frame has for itself."""


@dataclasses.dataclass(frozen=True)
class Microscope:
    """The step from the first frame's microscope to that of all frames, in the unit cube of the
    coordinates `index` of a point, and half the Hessian of the objective there; `covariance` of
    all that frames have in common, in the unit cube of `every`: what is at a bound in a frame errs,
    but makes no step."""

    index: tuple[int, ...]
    step: Float[np.ndarray, " common"]
    hessian: Float[np.ndarray, "common common"]
    every: tuple[int, ...]
    covariance: Float[np.ndarray, "every every"]


def microscope_of(
    models: list[FieldModel], states: list[JointState], journal: Journal
) -> Microscope:
    """From frames whose microscope is the first one's; `models`: with all of it free, the tilt
    about that of the frame before."""
    found = free_coordinates(models[0], states[0])
    systems = []
    for model, state in zip(models, states, strict=True):
        pooled = pool(model, state, journal, fixed(state, whole=True))
        systems.append(pooled.normal_equations)
    return from_frames(found.coordinates.free[found.own :], systems)


def from_frames(shared: tuple[int, ...], systems: list[ArrowSystem]) -> Microscope:
    """From the normal equations of frames, whose shared coordinates are at `shared` in a point;
    priors of what is common to all frames count once."""
    moving = np.isin(shared, MOVING)
    common = ~moving & np.all([s.shared_active for s in systems], axis=0)
    hessian, slope = _together(systems, moving, common)
    step = -np.linalg.pinv(hessian, hermitian=True) @ slope
    every, _ = _together([s.of_errors() for s in systems], moving, ~moving)
    covariance = np.linalg.pinv(every, hermitian=True)
    index, all_common = (tuple(int(n) for n in np.array(shared)[at]) for at in (common, ~moving))
    return Microscope(index, step, hessian, all_common, covariance)


def _together(
    systems: list[ArrowSystem], moving: np.ndarray, common: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(half the Hessian, half the gradient) by what is `common`, of all frames."""
    hessian = np.diag(systems[0].shared_precision[common])
    slope = systems[0].shared_pull[common]
    for system in systems:
        more, along = _without_moving(system, moving, common)
        hessian, slope = hessian + more, slope + along
    return hessian, slope


def _without_moving(
    system: ArrowSystem, moving: np.ndarray, common: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(half the Hessian, half the gradient) by what is `common`, what moves at its best."""
    hessian, slope = system.of_shared()
    free = moving & system.shared_active
    inner = hessian[np.ix_(free, free)] + np.diag(system.shared_precision[free])
    across = np.linalg.pinv(inner, hermitian=True) @ hessian[np.ix_(free, common)]
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
    at = np.array([coordinates.free.index(index) for index in found.index], dtype=int)
    unit[:, at] += _within(found, unit[0, at])
    return coordinates.host().place(points, unit)


def _within(found: Microscope, here: Float[np.ndarray, " common"]) -> Float[np.ndarray, " common"]:
    """The step from `here` that ends within the unit cube; what would leave it stays at its bound,
    and the others take the best step behind that."""
    step = found.step.copy()
    held = np.zeros(len(step), dtype=bool)
    for _ in range(len(step)):
        out = ~held & ((here + step < 0.0) | (here + step > 1.0))
        if not out.any():
            break
        held |= out
        step[held] = np.clip(here + step, 0.0, 1.0)[held] - here[held]
        free, hessian = ~held, found.hessian
        pull = hessian[np.ix_(free, held)] @ (step - found.step)[held]
        inner = np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True)
        step[free] = found.step[free] - inner @ pull
    return step


Errors = dict[str, float | None]


def microscope_errors(
    coordinates: Coordinates, names: list[str], found: Microscope, scale: ErrorScale
) -> tuple[Errors, Errors]:
    """(errors from the noise alone, errors scaled by the misfit) of what stays the same, by name,
    None where the images do not determine it.

    **Arguments:** `coordinates` of the first frame; `names` of all of a point; `scale`, that of the
    first frame.
    """
    at = [coordinates.free.index(index) for index in found.every]
    deviation = np.sqrt(np.maximum(np.diagonal(found.covariance), 0.0))
    std = determined_std(deviation, known_without_image(coordinates)[at])
    std = std * coordinates.host().width[at] * scale.noise
    of_noise: Errors = {
        names[n]: float(s) if np.isfinite(s) else None
        for n, s in zip(found.every, std, strict=True)
    }
    return of_noise, {name: None if s is None else s * scale.misfit for name, s in of_noise.items()}
