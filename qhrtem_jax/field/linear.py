"""A whole field to first order: what every parameter and every atom does to all pixels it reaches.

Atoms added or taken away are simulated in the field; other parameters (nuisances) act by their
derivatives. With all of these at once the best whole numbers follow from integer least squares, and
the best nuisances from a linear system of equations. The vectors stay valid while numbers and
parameters move a little, so further steps cost a few simulations each. What a region's own atoms
and parameters do is looked at in the pixels near it; cells that no region shows stay as they are.
"""

import dataclasses
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from qhrtem_jax.field.fit import FieldFit
from qhrtem_jax.refine.integer_least_squares import IntegerModel
from qhrtem_jax.refine.integers import shared_columns
from qhrtem_jax.refine.whole_field import push

log = logging.getLogger(__name__)

UNSEEN = 0.1
"""Chi-square that a change of atoms may leave where none should be seen."""

REACH = 2
"""Numbers are looked at within so many atoms of those that the vectors were made for; those of
atoms beside heavier ones in their column, at all."""

TANGENTS_CPU, TANGENTS_GPU = 4, 16
"""Derivatives that are computed at once."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Whitened pixels of one region, and the vectors (len(index), pixels) that act on them."""

    index: np.ndarray
    vectors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Step:
    """Numbers (regions, chains), and a step of the nuisances in units of their widths."""

    numbers: np.ndarray
    nuisances: np.ndarray


@dataclasses.dataclass(frozen=True)
class Situation:
    """Some points of the field, as if their numbers were those that the vectors start from:
    chi-square, half its gradients by the changes and by the nuisances (with priors), and the
    covariance of the nuisances."""

    constant: float
    products: np.ndarray
    slope: np.ndarray
    inverse: np.ndarray


class FieldLinear:
    """Vectors of a field: changes of numbers, then the nuisances, those of each region first."""

    def __init__(self, field: FieldFit) -> None:
        self.field = field
        self.base = np.rint(field.points[:, field.layout.counts])
        self.coordinates, self.own = field.nuisances()
        self.shared = shared_columns(field.columns)
        self.lighter = sorted({j for _, j in self.shared})
        self.near, self.groups = field.cells.near, field.cells.apart()
        changes = self._changes()
        if changes is None:
            log.info("atoms reach further than thought: regions are simulated one by one")
            self.near = np.ones_like(self.near)
            self.groups = [[k] for k in range(len(self.base))]
            changes = self._changes()
        assert changes is not None
        self.changes, entries = changes
        self.joint = self._together(entries)
        self.count = len(self.changes) + len(np.unique(self.joint[:, 4]))
        self._derivatives(entries)
        self.blocks = [
            Block(np.array([i for i, _ in entry]), np.array([v for _, v in entry]))
            for entry in entries
        ]
        size = self.count + self.nuisances
        self.gram = np.zeros((size, size))
        for block in self.blocks:
            vectors = block.vectors.astype(float)
            self.gram[np.ix_(block.index, block.index)] += vectors @ vectors.T
        self.across = self.gram[self.count :, : self.count]
        self.empty = IntegerModel(
            self.base.ravel(),
            *self._table(),
            self.joint,
            0.0,
            np.zeros(self.count),
            np.zeros((self.count, self.count)),
            *self._limits(),
        )
        self._inverses: dict[bytes, np.ndarray] = {}

    @property
    def nuisances(self) -> int:
        """Number of nuisances."""
        return len(self.base) * self.own + len(self.coordinates.free) - self.own

    def _changes(self) -> tuple[np.ndarray, list[list[tuple[int, np.ndarray]]]] | None:
        """(changes (m, 3): region, chain, number of atoms; their vectors, region by region of the
        pixels); None where several together reach further than `near` says. Regions of a group
        change in the same simulation."""
        field = self.field
        base = field.residuals()
        found: list[tuple[int, int, int]] = []
        entries: list[list[tuple[int, np.ndarray]]] = [[] for _ in base]
        for group in self.groups:
            beyond = ~self.near[:, group].any(axis=1)
            for chain in range(self.base.shape[1]):
                values = [self._values(k, chain) for k in group]
                for numbers in itertools.zip_longest(*values):
                    rows: dict[int, np.ndarray] = {}
                    for k, number in zip(group, numbers, strict=True):
                        if number is not None:
                            rows[k] = self.base[k].copy()
                            rows[k][chain] = number
                    effect = self._residuals_with(rows) - base
                    if np.sum(effect[beyond] ** 2) > UNSEEN * len(rows):
                        return None
                    for k, row in rows.items():
                        for b in np.flatnonzero(self.near[:, k]):
                            entries[b].append((len(found), effect[b].astype(np.float32)))
                        found.append((k, chain, int(row[chain])))
        return np.array(found), entries

    def _values(self, region: int, chain: int) -> list[int]:
        """Other numbers of a chain that are simulated: one more and less, and all of the lighter
        atoms of a column (one heavy atom scatters like several of them)."""
        present, most = int(self.base[region, chain]), int(self.field.fit.most[chain])
        reach = most if chain in self.lighter else 1
        values = range(max(present - reach, 0), min(present + reach, most) + 1)
        return [n for n in values if n != present]

    def _together(self, entries: list[list[tuple[int, np.ndarray]]]) -> np.ndarray:
        """What heavier and lighter atoms of a column do together beyond what they do alone: adds
        the vectors, and returns (t, 6), as `IntegerModel.joint`; two heavier atoms do twice as much
        as one. Simulated in the periodic cell of each region, for its own pixels."""
        field, chains = self.field, self.base.shape[1]
        points, found, first, vectors = field.snapped(), [], len(self.changes), 0
        for k, present in enumerate(self.base.astype(int)):
            for i, j in self.shared:
                if (j, i) in self.shared and j < i:  # equally heavy: once
                    continue
                ends = [n for n in (present[i] - 1, present[i] + 1) if 0 <= n <= field.fit.most[i]]
                others = self._values(k, j)
                states = [(n, m) for n in (present[i], *ends) for m in (present[j], *others)]
                stack = np.tile(points[k], (len(states), 1))
                stack[:, field.layout.counts.start + np.array([i, j])] = states
                white = np.asarray(field.model.likelihood.whiten(field.model.images(stack)), float)
                table = white.reshape(1 + len(ends), 1 + len(others), -1)
                beyond = table - table[:1] - table[:, :1] + table[0, 0]
                for (a, n), (b, m) in itertools.product(enumerate(ends, 1), enumerate(others, 1)):
                    entries[k].append((first + vectors, beyond[a, b].astype(np.float32)))
                    for often in (1, 2):
                        value = present[i] + often * (n - present[i])
                        pair = (k * chains + i, value, k * chains + j, m)
                        found.append((*pair, first + vectors, often))
                    vectors += 1
        return np.array(found, dtype=int).reshape(-1, 6)

    def _residuals_with(self, changed: dict[int, np.ndarray]) -> np.ndarray:
        field = self.field
        simulated = field.cut(field.image_with(changed))
        return np.asarray(field.model.likelihood.residual(simulated, field.targets), float)

    def _derivatives(self, entries: list[list[tuple[int, np.ndarray]]]) -> None:
        """Add the vectors of the nuisances, in units of their widths."""
        field = self.field
        free, width = self.coordinates.free, np.asarray(self.coordinates.width, float)
        regions, first = len(self.base), self.count
        tangents: list[tuple[list[int], int]] = [
            (group, p) for group in self.groups for p in range(self.own)
        ]
        tangents += [(list(range(regions)), p) for p in range(self.own, len(free))]
        dtype = field.fit.simulator.simulator.dtype
        points, model = jnp.asarray(field.points, dtype), field.whole()
        chunk = TANGENTS_CPU if jax.default_backend() == "cpu" else TANGENTS_GPU
        for start in range(0, len(tangents), chunk):
            part = tangents[start : start + chunk]
            directions = np.zeros((chunk, *field.points.shape))
            for row, (group, p) in zip(directions, part, strict=False):
                row[group, free[p]] = width[p]
            moved = np.asarray(push(model, points, jnp.asarray(directions, dtype)), np.float32)
            for (group, p), effect in zip(part, moved.reshape(chunk, regions, -1), strict=False):
                for b in range(regions):
                    if p >= self.own:
                        entries[b].append((first + regions * self.own + p - self.own, effect[b]))
                        continue
                    for k in group:
                        if self.near[b, k]:
                            entries[b].append((first + k * self.own + p, effect[b]))
        field.journal.gradient_evaluations += len(tangents)

    def step(self, numbers: np.ndarray) -> "Step":
        """The best step of the nuisances behind a change to `numbers` (regions, chains), from the
        present points of the field."""
        situation = self._situation()
        made = self.empty.amounts(numbers.reshape(1, -1))[0]
        return Step(numbers, -situation.inverse @ (situation.slope + self.across @ made))

    def model(self) -> IntegerModel:
        """The integer model around the present points of the field."""
        s, count = self._situation(), self.count
        return dataclasses.replace(
            self.empty,
            constant=float(s.constant - s.slope @ s.inverse @ s.slope),
            linear=s.products - self.across.T @ (s.inverse @ s.slope),
            quadratic=self.gram[:count, :count] - self.across.T @ s.inverse @ self.across,
        )

    def _situation(self) -> "Situation":
        """Nuisances at a bound that would go beyond it stay there."""
        field, count = self.field, self.count
        residual = field.residuals()
        products = np.zeros(len(self.gram))
        for block, r in zip(self.blocks, residual, strict=True):
            products[block.index] += block.vectors @ r
        present = np.rint(field.points[:, field.layout.counts])
        made = self.empty.amounts(present.reshape(1, -1))[0]
        # as if the numbers were those that the vectors start from
        constant = float(np.sum(residual**2)) - 2.0 * made @ products[:count]
        constant += made @ self.gram[:count, :count] @ made
        products = products - self.gram[:, :count] @ made
        unit, precision, pull = self._prior()
        slope = products[count:] + pull
        held = np.zeros(self.nuisances, dtype=bool)
        for _ in range(3):
            inverse = self._inverse(precision, held)
            step = -inverse @ (slope + self.across @ made)
            outward = ((unit <= 1e-6) & (step < 0.0)) | ((unit >= 1.0 - 1e-6) & (step > 0.0))
            if not np.any(outward & ~held):
                break
            held |= outward
        return Situation(float(constant), products[:count], slope, inverse)

    def _inverse(self, precision: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Covariance of the nuisances that are not held; kept, since it seldom changes."""
        key = held.tobytes()
        if key not in self._inverses:
            free = np.flatnonzero(~held)
            hessian = self.gram[self.count :, self.count :] + np.diag(precision)
            inverse = np.zeros_like(hessian)
            part = np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True)
            inverse[np.ix_(free, free)] = part
            self._inverses[key] = inverse
        return self._inverses[key]

    def at_end(self, moved: np.ndarray) -> bool:
        """Whether a number is as far from the linearised ones as is looked at; `moved` (regions,
        chains), how far each is."""
        narrow = [c for c in range(self.base.shape[1]) if c not in self.lighter]
        return bool(np.any(moved[:, narrow] >= REACH))

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Which change, and how often, makes each number of each chain, (numbers, values)."""
        chains = self.base.shape[1]
        shape = (self.base.size, int(self.field.fit.most.max()) + 1)
        which, times = np.full(shape, -1), np.zeros(shape)
        for k, (region, chain, number) in enumerate(self.changes):
            row, present = region * chains + chain, int(self.base[region, chain])
            which[row, number], times[row, number] = k, 1.0
            step = number - present
            further = present + REACH * step
            if abs(step) == 1 and chain not in self.lighter and 0 <= further < shape[1]:
                which[row, further], times[row, further] = k, REACH
        return which, times

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(lowest, highest number that is looked at) of each chain."""
        most = np.broadcast_to(self.field.fit.most, self.base.shape)
        low, high = np.maximum(self.base - REACH, 0.0), np.minimum(self.base + REACH, most)
        low[:, self.lighter], high[:, self.lighter] = 0.0, most[:, self.lighter]
        return low.ravel(), high.ravel()

    def _prior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(unit-cube values, precisions of the priors, half their gradients) of the nuisances."""
        regions, own = len(self.base), self.own
        coordinates = self.coordinates.host()
        unit, weight = coordinates.to_unit(self.field.points), coordinates.precision
        pull = coordinates.pull(unit) / coordinates.prior_std

        def flat(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:, :own].ravel(), values[0, own:]])

        return flat(unit), flat(np.tile(weight, (regions, 1))), flat(pull)

    def move(self, step: "Step", share: float = 1.0) -> None:
        """Give the field the numbers of a step, and the nuisances a share of it."""
        field, regions = self.field, len(self.base)
        own = step.nuisances[: regions * self.own].reshape(regions, self.own)
        shared = np.tile(step.nuisances[regions * self.own :], (regions, 1))
        both = share * np.concatenate([own, shared], axis=1)
        points = self.coordinates.step(field.points, both)
        points[:, field.layout.counts] = step.numbers
        field.points = points
