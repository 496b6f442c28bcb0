"""A whole field to first order: what every parameter and every atom does to all pixels it reaches.

With the vectors of all changes and nuisances at once (`field.vectors`) the best whole numbers
follow from integer least squares, and the best nuisances from a linear system of equations. The
vectors stay valid while numbers and parameters move a little, so further steps cost a few
simulations each. What a region's own atoms and parameters do is looked at in the pixels near it;
where states are compared, the numbers of cells that no region shows are nuisances, too.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from qhrtem_jax.field.model import FieldModel, JointState, Weights, whole_numbers
from qhrtem_jax.field.simulate import residuals
from qhrtem_jax.field.vectors import Vectors, lighter_chains, make_vectors
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integer_least_squares import IntegerModel
from qhrtem_jax.refine.unknown_cells import deviations

REACH = 2
"""Numbers are looked at within so many atoms of those that the vectors were made for; those of
atoms beside heavier ones in their column, at all."""

KEPT = 8
"""So many covariances are kept: those of all trials of a large field fill the memory."""

EDGE = 1e-6
"""So near to a bound, in units of its width, a nuisance is at it."""


@dataclasses.dataclass(frozen=True)
class FieldLinear:
    """A field around the whole numbers `base`, with the pixels weighed by `weights`.

    `gram`: products of all vectors; `precision`: of what is known of the nuisances besides the
    pixels of the regions: priors, and what other pixels say of unknown cells; `empty`: the integer
    model without a residual. Unknown cells have been fitted to the whole image, so at their numbers
    `unknown` (standard deviations of their prior) other pixels pull against what regions and priors
    do, by `balance`.
    """

    model: FieldModel
    weights: Weights
    base: Float[np.ndarray, "regions chains"]
    vectors: Vectors
    gram: Float[np.ndarray, "v v"]
    precision: Float[np.ndarray, "n n"]
    unknown: Float[np.ndarray, "unknown chains"]
    balance: Float[np.ndarray, "unknown chains"]
    empty: IntegerModel
    _covariances: dict[bytes, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )
    _curvatures: dict[bytes, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def count(self) -> int:
        """Number of vectors that change numbers; those of the nuisances follow."""
        return self.vectors.count

    @property
    def across(self) -> Float[np.ndarray, "n c"]:
        """Products of nuisances with changes."""
        return self.gram[self.count :, : self.count]

    @property
    def among(self) -> Float[np.ndarray, "c c"]:
        """Products of changes with each other."""
        return self.gram[: self.count, : self.count]

    def covariance(self, held: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        """Of the nuisances that are not held; the last ones are kept, since it seldom changes."""

        def made() -> np.ndarray:
            free = np.flatnonzero(~held)
            hessian = self.gram[self.count :, self.count :] + self.precision
            inverse = np.zeros_like(hessian)
            part = np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True)
            inverse[np.ix_(free, free)] = part
            return inverse

        return _kept(self._covariances, held.tobytes(), KEPT, made)

    def curvature(self, held: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "c c"]:
        """Of the objective by the changes, the nuisances that are not held at their best; the last
        one is kept, since trials seldom differ in it."""

        def made() -> np.ndarray:
            across = self.across
            return self.among - across.T @ (self.covariance(held) @ across)

        return _kept(self._curvatures, held.tobytes(), 1, made)


@dataclasses.dataclass(frozen=True)
class Step:
    """Numbers, and a step of the nuisances in units of their widths."""

    numbers: Float[np.ndarray, "regions chains"]
    nuisances: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Situation:
    """Some points of the field, as if their numbers were those that the vectors start from:
    chi-square, half its gradients by the changes and by the nuisances (with priors), the covariance
    of the nuisances, and which of these are held."""

    constant: float
    products: Float[np.ndarray, " c"]
    slope: Float[np.ndarray, " n"]
    inverse: Float[np.ndarray, "n n"]
    held: Bool[np.ndarray, " n"]


def linearise(model: FieldModel, state: JointState, journal: Journal) -> FieldLinear:
    """The field around a state whose heights are settled."""
    base, vectors = whole_numbers(model, state), make_vectors(model, state, journal)
    known = np.tile(model.nuisances.coordinates.host().precision, (len(base), 1))
    unknown = deviations(state.unknown, model.per_cell)
    precision = np.diag(_flat(model, known, np.ones_like(unknown)))
    precision[len(precision) - unknown.size :, len(precision) - unknown.size :] += vectors.outside
    size = vectors.count + len(precision)
    gram = np.zeros((size, size))
    for block in vectors.blocks:
        part = block.vectors.astype(float)
        gram[np.ix_(block.index, block.index)] += part @ part.T
    empty = IntegerModel(
        base.ravel(),
        *_table(model, base, vectors),
        vectors.joint,
        0.0,
        np.zeros(vectors.count),
        np.zeros((vectors.count, vectors.count)),
        *_limits(model, base),
    )
    balance = np.zeros(size)
    for block, missed in zip(vectors.blocks, residuals(model, state, journal), strict=True):
        balance[block.index] -= block.vectors @ missed
    balance = balance[size - unknown.size :].reshape(unknown.shape) - unknown
    return FieldLinear(
        model, state.weights, base, vectors, gram, precision, unknown, balance, empty
    )


def best_step(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    numbers: Float[np.ndarray, "regions chains"],
) -> Step:
    """The best step of the nuisances behind a change to `numbers`, from a state."""
    here = situation(linear, state, journal, unknown_free=False)
    made = linear.empty.amounts(numbers.reshape(1, -1))[0]
    return Step(numbers, -here.inverse @ (here.slope + linear.across @ made))


def moved(linear: FieldLinear, state: JointState, step: Step, share: float = 1.0) -> JointState:
    """The state with the numbers of a step, and the nuisances moved by a share of it."""
    model, free, regions = linear.model, linear.model.nuisances, len(linear.base)
    cut = regions * free.own, len(step.nuisances) - linear.unknown.size
    own, shared, _ = np.split(share * step.nuisances, cut)
    own, shared = own.reshape(regions, free.own), np.tile(shared, (regions, 1))
    points = free.coordinates.step(state.points, np.concatenate([own, shared], axis=1))
    points[:, model.layout.counts] = step.numbers
    return dataclasses.replace(state, points=points)


def integer_model(linear: FieldLinear, state: JointState, journal: Journal) -> IntegerModel:
    """The integer model around a state, the nuisances at their best for each number."""
    here, across = situation(linear, state, journal, unknown_free=True), linear.across
    return dataclasses.replace(
        linear.empty,
        constant=float(here.constant - here.slope @ here.inverse @ here.slope),
        linear=here.products - across.T @ (here.inverse @ here.slope),
        quadratic=linear.curvature(here.held),
    )


def situation(
    linear: FieldLinear, state: JointState, journal: Journal, *, unknown_free: bool
) -> Situation:
    """Where a state is in the linearised field. Nuisances at a bound that would go beyond it stay
    there, and unknown cells where they are not `unknown_free`: states are compared with these at
    their best, but steps leave them to gradients of the whole image, since their numbers are
    relaxed and far from linear.

    **Raises:** `ValueError` if the state weighs its pixels otherwise.
    """
    if state.weights is not linear.weights:
        raise ValueError("this field was linearised with other weights of the pixels")
    model, count = linear.model, linear.count
    residual = residuals(model, state, journal)
    products = np.zeros(len(linear.gram))
    for block, r in zip(linear.vectors.blocks, residual, strict=True):
        products[block.index] += block.vectors @ r
    made = linear.empty.amounts(whole_numbers(model, state).reshape(1, -1))[0]
    # as if the numbers were those that the vectors start from
    constant = float(np.sum(residual**2)) - 2.0 * made @ products[:count]
    constant += made @ linear.among @ made
    products = products - linear.gram[:, :count] @ made
    coordinates = model.nuisances.coordinates.host()
    places = coordinates.to_unit(state.points)
    room = (state.first + np.asarray(state.unknown.numbers, float)) / model.most
    unit = _flat(model, places, room)
    unknown = deviations(state.unknown, model.per_cell)
    seen = linear.vectors.outside @ (unknown - linear.unknown).ravel()
    pulls = unknown + linear.balance + seen.reshape(unknown.shape)
    pull = _flat(model, coordinates.pull(places) / coordinates.prior_std, pulls)
    slope = products[count:] + pull
    # where no region looks, only other pixels say what is there
    free = np.any(model.cells.near_unknown, axis=0)[:, None] & unknown_free
    held = _flat(model, np.zeros(places.shape, bool), np.broadcast_to(~free, unknown.shape))
    for _ in range(3):
        used = held
        inverse = linear.covariance(used)
        step = -inverse @ (slope + linear.across @ made)
        outward = ((unit <= EDGE) & (step < 0.0)) | ((unit >= 1.0 - EDGE) & (step > 0.0))
        if not np.any(outward & ~held):
            break
        held = held | outward
    return Situation(float(constant), products[:count], slope, inverse, used)


def at_end(linear: FieldLinear, moved: Float[np.ndarray, "regions chains"]) -> bool:
    """Whether a number is as far from the linearised ones as is looked at; `moved`, how far each
    is."""
    lighter = lighter_chains(linear.model)
    narrow = [c for c in range(linear.base.shape[1]) if c not in lighter]
    return bool(np.any(moved[:, narrow] >= REACH))


def _kept(
    kept: dict[bytes, np.ndarray], key: bytes, most: int, make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What was made for a key; the last `most` are kept."""
    if key not in kept:
        while len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = make()
    return kept[key]


def _table(
    model: FieldModel, base: np.ndarray, vectors: Vectors
) -> tuple[Int[np.ndarray, "n values"], Float[np.ndarray, "n values"]]:
    """Which change, and how often, makes each number of each chain."""
    chains, lighter = base.shape[1], lighter_chains(model)
    shape = (base.size, int(model.most.max()) + 1)
    which, times = np.full(shape, -1), np.zeros(shape)
    for k, (region, chain, number) in enumerate(vectors.changes):
        row, present = region * chains + chain, int(base[region, chain])
        which[row, number], times[row, number] = k, 1.0
        step = number - present
        further = present + REACH * step
        if abs(step) == 1 and chain not in lighter and 0 <= further < shape[1]:
            which[row, further], times[row, further] = k, REACH
    return which, times


def _limits(
    model: FieldModel, base: np.ndarray
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(lowest, highest number that is looked at) of each chain."""
    most, lighter = np.broadcast_to(model.most, base.shape), lighter_chains(model)
    low, high = np.maximum(base - REACH, 0.0), np.minimum(base + REACH, most)
    low[:, lighter], high[:, lighter] = 0.0, most[:, lighter]
    return low.ravel(), high.ravel()


def _flat(
    model: FieldModel,
    values: Shaped[np.ndarray, "regions p"],
    unknown: Shaped[np.ndarray, "unknown chains"],
) -> Shaped[np.ndarray, " n"]:
    """Nuisances in one row: those of each region, the shared ones, the unknown cells' numbers."""
    own = model.nuisances.own
    return np.concatenate([values[:, :own].ravel(), values[0, own:], unknown.ravel()])
