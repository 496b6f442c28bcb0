"""A whole field to first order: what every parameter and every atom does to all pixels it reaches.

With the vectors of all changes and nuisances at once (`field.vectors`) the best whole numbers
follow from integer least squares, and the best nuisances from a linear system of equations. The
vectors stay valid while numbers and parameters move a little, so further steps cost a few
simulations each. What a region's own atoms and parameters do is looked at in the pixels near it;
where states are compared, the numbers of cells that no region shows are nuisances, too.
"""

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from qhrtem_jax.field.model import FieldModel, JointState, Weights, whole_numbers
from qhrtem_jax.field.products import Products, make_products
from qhrtem_jax.field.simulate import residuals
from qhrtem_jax.field.vectors import Vectors, lighter_chains, make_vectors
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.refine.integer_least_squares import IntegerModel, Numbering
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

    `numbering`: which vectors make which numbers; `hessian`: half that of the objective by the
    nuisances, with what is known of them besides the pixels of the regions: priors, and what other
    pixels say of unknown cells. Unknown cells have been fitted to the whole image, so at their
    numbers `unknown` (standard deviations of their prior) other pixels pull against what regions
    and priors do, by `balance`.
    """

    model: FieldModel
    weights: Weights
    base: Float[np.ndarray, "regions chains"]
    vectors: Vectors
    products: Products
    numbering: Numbering
    hessian: Float[np.ndarray, "n n"]
    unknown: Float[np.ndarray, "unknown chains"]
    balance: Float[np.ndarray, "unknown chains"]
    _covariances: dict[Hashable, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )
    _curvatures: dict[Hashable, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def reach(self) -> Bool[np.ndarray, "regions regions"]:
        """As that of the layout, with what the vectors have shown to reach further."""
        return self.vectors.near | self.model.cells.reach

    def amounts(self, numbers: Float[np.ndarray, "regions chains"]) -> Float[np.ndarray, " c"]:
        """How often each change is made in some numbers."""
        return self.numbering.amounts(numbers.reshape(1, -1))[0]

    def covariance(self, held: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        """Of the nuisances that are not held; the last ones are kept, since it seldom changes."""

        def made() -> np.ndarray:
            free = np.flatnonzero(~held)
            inverse = np.zeros_like(self.hessian)
            part = np.linalg.pinv(self.hessian[np.ix_(free, free)], hermitian=True)
            inverse[np.ix_(free, free)] = part
            return inverse

        return _kept(self._covariances, held.tobytes(), KEPT, made)

    def curvature(
        self, held: Bool[np.ndarray, " n"], regions: Int[np.ndarray, " some"]
    ) -> Float[np.ndarray, "c c"]:
        """Of the objective by the changes of some regions, the nuisances that are not held at their
        best; the last one is kept, since trials in the same regions seldom differ in it."""

        def made() -> np.ndarray:
            rows, across = self.products.between(regions)
            inverse = self.covariance(held)[np.ix_(rows, rows)]
            return self.products.among(regions) - across.T @ (inverse @ across)

        return _kept(self._curvatures, (held.tobytes(), regions.tobytes()), 1, made)


@dataclasses.dataclass(frozen=True)
class Step:
    """Numbers, and a step of the nuisances in units of their widths."""

    numbers: Float[np.ndarray, "regions chains"]
    nuisances: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a state misses of the pixels: chi-square, and products with all vectors."""

    chi2: float
    products: Float[np.ndarray, " v"]


@dataclasses.dataclass(frozen=True)
class Situation:
    """A state in the linearised field: its numbers, the ranks of chains' first atoms, chi-square,
    half its gradients by the changes and by the nuisances (with priors), the covariance of the
    nuisances, and which of these are held."""

    numbers: Float[np.ndarray, "regions chains"]
    begins: Int[np.ndarray, "regions chains"]
    chi2: float
    products: Float[np.ndarray, " c"]
    slope: Float[np.ndarray, " n"]
    inverse: Float[np.ndarray, "n n"]
    held: Bool[np.ndarray, " n"]

    @property
    def objective(self) -> float:
        """With the nuisances at their best."""
        return self.chi2 - float(self.slope @ self.inverse @ self.slope)


def linearise(model: FieldModel, state: JointState, journal: Journal) -> FieldLinear:
    """The field around a state whose heights are settled."""
    base, vectors = whole_numbers(model, state), make_vectors(model, state, journal)
    products = make_products(vectors)
    known = np.tile(model.nuisances.coordinates.host().precision, (len(base), 1))
    unknown = deviations(state.unknown, model.per_cell)
    hessian = np.diag(_flat(model, known, np.ones_like(unknown))) + products.nuisances
    last = slice(len(hessian) - unknown.size, None)
    hessian[last, last] += vectors.outside
    numbering = Numbering(
        base.ravel(),
        *_table(model, base, vectors),
        vectors.joint,
        *_limits(model, base),
        vectors.count,
    )
    slope = vectors.along(residuals(model, state, journal))[vectors.count :]
    balance = -slope[last].reshape(unknown.shape) - unknown
    return FieldLinear(
        model, state.weights, base, vectors, products, numbering, hessian, unknown, balance
    )


def best_step(
    linear: FieldLinear,
    state: JointState,
    journal: Journal,
    numbers: Float[np.ndarray, "regions chains"],
) -> Step:
    """The best step of the nuisances behind a change to `numbers`, from a state."""
    missed = seen(linear, residuals(linear.model, state, journal))
    here = situation(linear, state, missed, unknown_free=False)
    _, slope = _changed(linear, here, numbers)
    return Step(numbers, -here.inverse @ slope)


def moved(linear: FieldLinear, state: JointState, step: Step, share: float = 1.0) -> JointState:
    """The state with the numbers of a step, and the nuisances moved by a share of it."""
    model, free, regions = linear.model, linear.model.nuisances, len(linear.base)
    cut = regions * free.own, len(step.nuisances) - linear.unknown.size
    own, shared, _ = np.split(share * step.nuisances, cut)
    own, shared = own.reshape(regions, free.own), np.tile(shared, (regions, 1))
    points = free.coordinates.step(state.points, np.concatenate([own, shared], axis=1))
    points[:, model.layout.counts] = step.numbers
    return dataclasses.replace(state, points=points)


def integer_model(
    linear: FieldLinear, here: Situation, regions: Int[np.ndarray, " some"]
) -> IntegerModel:
    """The integer model of the numbers of some regions (ascending) around a situation, all others
    as they are there, the nuisances at their best for each."""
    chains = here.numbers.shape[1]
    mine = (regions[:, None] * chains + np.arange(chains)).ravel()
    numbering, kept = linear.numbering.part(mine)
    rows, across = linear.products.between(regions)
    slope = here.products[kept] - across.T @ (here.inverse[rows] @ here.slope)
    quadratic = linear.curvature(here.held, regions)
    present = numbering.amounts(here.numbers[regions].reshape(1, -1))[0]
    bent = quadratic @ present
    constant = here.objective - float(present @ (2.0 * slope - bent))
    return IntegerModel(numbering, constant, slope - bent, quadratic)


def foretold(
    linear: FieldLinear, here: Situation, numbers: Float[np.ndarray, "regions chains"]
) -> float:
    """The objective of other numbers than those of a situation, the nuisances at their best."""
    chi2, slope = _changed(linear, here, numbers)
    return chi2 - float(slope @ here.inverse @ slope)


def _changed(
    linear: FieldLinear, here: Situation, numbers: np.ndarray
) -> tuple[float, Float[np.ndarray, " n"]]:
    """(chi-square, half its gradient by the nuisances) of other numbers, the nuisances as they
    are."""
    vectors = linear.vectors
    made = linear.amounts(numbers) - linear.amounts(here.numbers)
    if not np.any(made):
        return here.chi2, here.slope
    effect = vectors.effect(made)
    chi2 = here.chi2 + float(2.0 * made @ here.products + np.sum(effect**2))
    return chi2, here.slope + vectors.along(effect)[vectors.count :]


def seen(linear: FieldLinear, missed: Float[np.ndarray, "regions pixels"]) -> Seen:
    """As the vectors see whitened residuals."""
    return Seen(float(np.sum(missed**2)), linear.vectors.along(missed))


def seen_beside(
    linear: FieldLinear,
    here: Seen,
    missed: Float[np.ndarray, "regions pixels"],
    other: Float[np.ndarray, "regions pixels"],
    near: Int[np.ndarray, " some"],
) -> Seen:
    """The same, where the residuals are `missed`, `here`, but in the pixels of the regions `near`,
    where they are `other`."""
    chi2 = here.chi2 + float(np.sum(other[near] ** 2) - np.sum(missed[near] ** 2))
    return Seen(chi2, here.products + linear.vectors.along(other - missed, near))


def situation(
    linear: FieldLinear, state: JointState, missed: Seen, *, unknown_free: bool
) -> Situation:
    """Where a state is in the linearised field; `missed`: what it misses of the pixels. Nuisances
    at a bound that would go beyond it stay there, and unknown cells where they are not
    `unknown_free`: states are compared with these at their best, but steps leave them to gradients
    of the whole image, since their numbers are relaxed and far from linear.

    **Raises:** `ValueError` if the state weighs its pixels otherwise.
    """
    if state.weights is not linear.weights:
        raise ValueError("this field was linearised with other weights of the pixels")
    model, count = linear.model, linear.vectors.count
    coordinates = model.nuisances.coordinates.host()
    places = coordinates.to_unit(state.points)
    room = (state.first + np.asarray(state.unknown.numbers, float)) / model.most
    unit = _flat(model, places, room)
    unknown = deviations(state.unknown, model.per_cell)
    elsewhere = linear.vectors.outside @ (unknown - linear.unknown).ravel()
    pulls = unknown + linear.balance + elsewhere.reshape(unknown.shape)
    pull = _flat(model, coordinates.pull(places) / coordinates.prior_std, pulls)
    slope = missed.products[count:] + pull
    # where no region looks, only other pixels say what is there
    free = np.any(model.cells.near_unknown, axis=0)[:, None] & unknown_free
    held = _flat(model, np.zeros(places.shape, bool), np.broadcast_to(~free, unknown.shape))
    for _ in range(3):
        used = held
        inverse = linear.covariance(used)
        step = -inverse @ slope
        outward = ((unit <= EDGE) & (step < 0.0)) | ((unit >= 1.0 - EDGE) & (step > 0.0))
        if not np.any(outward & ~held):
            break
        held = held | outward
    numbers, products = whole_numbers(model, state), missed.products[:count]
    return Situation(numbers, state.stack.begins, missed.chi2, products, slope, inverse, used)


def situation_of(linear: FieldLinear, state: JointState, journal: Journal) -> Situation:
    """Where a state is, unknown cells at their best."""
    missed = seen(linear, residuals(linear.model, state, journal))
    return situation(linear, state, missed, unknown_free=True)


def at_end(linear: FieldLinear, moved: Float[np.ndarray, "regions chains"]) -> bool:
    """Whether a number is as far from the linearised ones as is looked at; `moved`, how far each
    is."""
    lighter = lighter_chains(linear.model)
    narrow = [c for c in range(linear.base.shape[1]) if c not in lighter]
    return bool(np.any(moved[:, narrow] >= REACH))


def _kept(
    kept: dict[Hashable, np.ndarray], key: Hashable, most: int, make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What was made for a key; those asked for last, `most` of them, are kept."""
    found = kept.pop(key) if key in kept else make()
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = found
    return found


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
