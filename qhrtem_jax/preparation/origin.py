"""Where in an image the origin of the crystal's cell lies, by simulation.

A lattice says where cells repeat, not where they begin, nor which of two opposite ways the crystal
stands. A table of images over thickness and defocus tells the few places that are possible; least
squares of the microscope's parameters decides between them.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.inputs.parameter_space import ParameterSpace
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.jacobian import image_and_jacobian
from qhrtem_jax.refine.levenberg_marquardt import LevenbergMarquardt

FOCI, SPHERICAL = 9, 3
"""Values of C1 and of C3 in the table, over their bounds."""

APART = 0.08
"""Places closer than this share of the cell, along both axes, are one."""

PLACES, EACH = 5, 2
"""So many places are fitted, each from so many of its best images of the table."""

ITERATIONS = 40

EVEN = (
    *("absorption", "image_spread", "focus_spread", "semi_convergence", "A0_x", "A0_y", "C1"),
    *("A1_x", "A1_y", "C3", "A3_x", "A3_y", "C5"),
)
"""Parameters that leave the image of a symmetric crystal symmetric."""

AS_GOOD = 2.0
"""Places whose misfit is less than so many times the best one's are looked at cell by cell."""

HEIGHTS_NM = np.arange(-3.0, 3.01, 0.3)
"""How far exit faces of single cells may lie from that of the mean."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """`shift`: (x, y), in shares of the cell, of the crystal's origin against the image's;
    `turned`: the crystal stands the other way round; `ncc` of the fit, and of the best at another
    place; `misfits`: mean squared ones of single cells at each place that came into question."""

    shift: Float[np.ndarray, " 2"]
    turned: bool
    ncc: float
    ncc_elsewhere: float
    misfits: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    vector: Float[np.ndarray, " parameters"]
    shift_px: tuple[int, int]  # rows, columns
    turned: bool
    ncc: float


@dataclasses.dataclass(frozen=True)
class _Fit:
    """`vector`, with A0 and thickness of the mean; `shift` as in `Origin`, not turned back."""

    vector: Float[np.ndarray, " parameters"]
    shift: Float[np.ndarray, " 2"]
    turned: bool
    ncc: float


def find_origin(
    image: Float[np.ndarray, "rows cols"],
    cells: Float[np.ndarray, "cells rows cols"],
    simulator: Simulator,
    space: ParameterSpace,
    *,
    both_ways: bool,
    translations: Float[np.ndarray, "t 2"],
) -> Origin:
    """Of `image`, the mean of some of the `cells`, as periodic as they are; `both_ways`: turned by
    half a turn the crystal is another; `translations`, (x, y) in shares of the cell, bring its
    projection onto itself."""
    found: list[_Fit] = []
    ways = (False, True) if both_ways else (False,)
    views = {turned: image[::-1, ::-1].copy() if turned else image for turned in ways}

    def keep(candidate: _Candidate) -> None:
        fit = _fitted(views[candidate.turned], simulator, space, candidate)
        place = [k for k, f in enumerate(found) if _alike(f, fit)]
        if not place:
            found.append(fit)
        elif fit.ncc > found[place[0]].ncc:
            found[place[0]] = fit

    for turned, view in views.items():
        for candidate in _possible(view, simulator, space, turned):
            keep(candidate)
    best = max(found, key=lambda fit: fit.ncc)
    for along in translations:
        col, row = np.rint((best.shift + along) * image.shape[::-1]).astype(int)
        vector = best.vector.copy()
        vector[[INDEX["A0_x"], INDEX["A0_y"]]] = space.base[[INDEX["A0_x"], INDEX["A0_y"]]]
        keep(_Candidate(vector, (int(row), int(col)), best.turned, best.ncc))
    found.sort(key=lambda fit: -fit.ncc)
    close = [fit for fit in found if 1.0 - fit.ncc <= AS_GOOD * (1.0 - found[0].ncc)]
    misfits = [_of_each_cell(cells, simulator, fit) for fit in close]
    best = close[int(np.argmin(misfits))]
    elsewhere = [fit.ncc for fit in found if fit is not best]
    shift = best.shift
    if best.turned:  # pixel n of the turned view is the last but n of the image as it is
        shift = -shift - 1.0 / np.array(image.shape[::-1])
    place = np.mod(shift + 0.5, 1.0) - 0.5
    return Origin(place, best.turned, best.ncc, max(elsewhere, default=-1.0), tuple(misfits))


def _alike(one: "_Fit", other: "_Fit") -> bool:
    return one.turned == other.turned and _same(one.shift, other.shift)


def _of_each_cell(
    cells: Float[np.ndarray, "cells rows cols"], simulator: Simulator, fit: "_Fit"
) -> float:
    """Mean squared misfit of single cells, each with the thickness and the height that suit it.

    A mean of cells tells two places apart no more where a part of the crystal's repeat along the
    beam brings one onto the other; cells of one thickness each do.
    """
    rows, cols = cells.shape[1:]
    move = [-round(float(fit.shift[1]) * rows), -round(float(fit.shift[0]) * cols)]
    views = np.roll(cells[:, ::-1, ::-1] if fit.turned else cells, move, axis=(1, 2))
    vector = fit.vector.copy()
    rest = fit.shift * np.array([cols, rows]) + np.array(move[::-1])
    nm = np.array([simulator.formation.camera.q_x[1], simulator.formation.camera.q_y[1, 0]], float)
    vector[[INDEX["A0_x"], INDEX["A0_y"]]] = rest / np.array([cols, rows]) / nm
    least = np.full(len(views), np.inf)
    for height in HEIGHTS_NM:
        vector[INDEX["C1"]] = fit.vector[INDEX["C1"]] + height
        images = np.asarray(_all_thicknesses(simulator, jnp.asarray(vector, simulator.dtype)))
        apart = np.array([np.mean((images - view) ** 2, axis=(1, 2)).min() for view in views])
        least = np.minimum(least, apart)
    return float(np.mean(least))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    apart = one - other
    return bool(np.all(np.abs(apart - np.rint(apart)) < APART))


def _possible(
    image: np.ndarray, simulator: Simulator, space: ParameterSpace, turned: bool
) -> list[_Candidate]:
    """The best images of the table at each of the best places."""
    low, high = space.thickness_range
    bounds = {v.name: (v.low, v.high) for v in space.space.variables}
    spectrum = np.fft.fft2(image - image.mean())
    norm = np.linalg.norm(spectrum)
    found: list[_Candidate] = []
    for c1 in _values(space, bounds, "C1", FOCI):
        for c3 in _values(space, bounds, "C3", SPHERICAL):
            vector = space.base.copy()
            vector[INDEX["C1"]], vector[INDEX["C3"]] = c1, c3
            images = np.asarray(_all_thicknesses(simulator, jnp.asarray(vector, simulator.dtype)))
            seen = np.fft.fft2(images - images.mean(axis=(1, 2), keepdims=True))
            maps = np.fft.ifft2(spectrum * np.conj(seen)).real * image.size
            maps /= norm * np.linalg.norm(seen, axis=(1, 2))[:, None, None]
            for k in range(low - 1, min(high, len(images))):
                row, col = np.unravel_index(np.argmax(maps[k]), image.shape)
                at = vector.copy()
                at[INDEX["thickness"]] = k + 1
                found.append(_Candidate(at, (int(row), int(col)), turned, float(maps[k].max())))
    found.sort(key=lambda c: -c.ncc)
    shape = np.array(image.shape)
    chosen: list[_Candidate] = []
    for one in found:
        place = np.array(one.shift_px) / shape
        there = [c for c in chosen if _same(np.array(c.shift_px) / shape, place)]
        places = {c.shift_px for c in chosen}
        if len(there) < EACH and (there or len(places) < PLACES * EACH):
            chosen.append(one)
    return chosen[: PLACES * EACH]


def _values(
    space: ParameterSpace, bounds: dict[str, tuple[float, float]], name: str, count: int
) -> Float[np.ndarray, " n"]:
    if name not in bounds:
        return np.array([space.base[INDEX[name]]])
    return np.linspace(*bounds[name], count)


@eqx.filter_jit
def _all_thicknesses(simulator: Simulator, vector: Array) -> Float[Array, "slices rows cols"]:
    parameters = simulator.typed(vector)
    waves = simulator.waves(parameters)
    return jax.lax.map(lambda w: simulator.formation(w, parameters.formation), waves)


def _fitted(
    image: np.ndarray, simulator: Simulator, space: ParameterSpace, start: _Candidate
) -> _Fit:
    """Least squares of what keeps the image of a symmetric crystal symmetric: tilt and coma trade
    against the origin."""
    rolled = np.roll(image, [-n for n in start.shift_px], axis=(0, 1))
    dtype = simulator.dtype
    names = tuple(name for name in space.fitted.space.names if name in EVEN)
    place = np.array([start.shift_px[1] / image.shape[1], start.shift_px[0] / image.shape[0]])
    if not names:
        return _Fit(start.vector, place, start.turned, start.ncc)
    coordinates = space.fitted.coordinates(names, 1.0).on_device(dtype)
    base = jnp.asarray(start.vector, dtype)
    unit, simulation = _least_squares(
        simulator, names, coordinates, base, jnp.asarray(rolled, dtype), coordinates.to_unit(base)
    )
    vector = np.asarray(coordinates.place(base, unit), float)
    ncc = float(np.corrcoef(np.asarray(simulation, float).ravel(), rolled.ravel())[0, 1])
    camera = simulator.formation.camera
    per_nm = np.array([camera.q_x[1], camera.q_y[1, 0]], float)
    shift = vector[[INDEX["A0_x"], INDEX["A0_y"]]] * per_nm
    return _Fit(vector, shift + place, start.turned, ncc)


@eqx.filter_jit
def _least_squares(
    simulator: Simulator,
    names: tuple[str, ...],
    coordinates: Coordinates,
    base: Float[Array, " parameters"],
    image: Float[Array, "rows cols"],
    start: Float[Array, " p"],
) -> tuple[Array, Array]:
    def residuals(unit: Array) -> tuple[Array, Array]:
        vector = coordinates.place(base, unit)
        simulated, jacobian = image_and_jacobian(simulator, vector, names)
        slopes = jacobian.reshape(len(names), -1).T * coordinates.width
        return (simulated - image).ravel(), slopes

    free = jnp.full(len(names), jnp.inf, base.dtype)
    method = LevenbergMarquardt(jnp.zeros(len(names), base.dtype), free, ITERATIONS, 1e-4)
    found = method.run(residuals, start).u
    return found, simulator.image(coordinates.place(base, found))
