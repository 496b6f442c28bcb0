"""A whole field to first order: what every parameter and every atom does to all pixels it reaches.

Atoms added or taken away are simulated in the field; other parameters (nuisances) act by their
derivatives. With all of these at once the best whole numbers follow from integer least squares, and
the best nuisances from a linear system of equations. The vectors stay valid while numbers and
parameters move a little, so each further step costs one simulation.
"""

import dataclasses
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from qhrtem_jax.refine.integer_least_squares import IntegerModel
from qhrtem_jax.refine.integers import shared_columns
from qhrtem_jax.refine.whole_field import push
from qhrtem_jax.stages.field_fit import FieldFit

log = logging.getLogger(__name__)

UNSEEN = 0.1
"""Chi-square that a change of atoms may leave where none should be seen."""

REACH = 2
"""Numbers are looked at within so many atoms of those that the vectors were made for; those of the
lighter atoms of a column, at all."""

TANGENTS_CPU, TANGENTS_GPU = 4, 16
"""Derivatives that are computed at once."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Whitened pixels of one region, and the vectors (len(index), pixels) that act on them."""

    index: np.ndarray
    vectors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Solved:
    """The integer model at some points, and what the best nuisances depend on: their step, in the
    unit cube, is -inverse (slope + across x) for changes x."""

    numbers: IntegerModel
    inverse: np.ndarray
    slope: np.ndarray
    across: np.ndarray


class FieldLinear:
    """Vectors of a field: changes of one atom, then the nuisances, those of each region first."""

    def __init__(self, field: FieldFit) -> None:
        self.field = field
        self.base = np.rint(field.points[:, field.layout.counts])
        self.coordinates, self.own = field.nuisances()
        self.shared = shared_columns(field.columns)
        self.lighter = sorted({j for _, j in self.shared})
        changes = self._changes(field.cells.near, field.cells.apart())
        if changes is None:
            log.info("changes of atoms reach further than thought: they are simulated one by one")
            alone = [[k] for k in range(len(self.base))]
            changes = self._changes(np.ones_like(field.cells.near), alone)
        assert changes is not None
        self.changes, entries = changes
        self.joint = self._together(entries)
        self.count = len(self.changes) + len(self.joint)
        self._derivatives(entries)
        self.blocks = [
            Block(np.array([i for i, _ in entry]), np.array([v for _, v in entry]))
            for entry in entries
        ]
        size = self.count + self.width
        self.gram = np.zeros((size, size))
        for block in self.blocks:
            vectors = block.vectors.astype(float)
            self.gram[np.ix_(block.index, block.index)] += vectors @ vectors.T

    @property
    def width(self) -> int:
        """Number of nuisances."""
        return len(self.base) * self.own + len(self.coordinates.free) - self.own

    def _changes(
        self, near: np.ndarray, groups: list[list[int]]
    ) -> tuple[np.ndarray, list[list[tuple[int, np.ndarray]]]] | None:
        """(changes (m, 3): region, chain, number of atoms; their vectors, region by region of the
        pixels); None where several together reach further than `near` says. Regions of a group
        change in the same simulation."""
        field = self.field
        base = field.residuals()
        found: list[tuple[int, int, int]] = []
        entries: list[list[tuple[int, np.ndarray]]] = [[] for _ in base]
        for group in groups:
            beyond = ~near[:, group].any(axis=1)
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
                        for b in np.flatnonzero(near[:, k]):
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
        the vectors, and returns (t, 4), as `IntegerModel.joint`. Simulated in the periodic cell of
        each region, for its own pixels."""
        field, chains = self.field, self.base.shape[1]
        points, found = field.snapped(), []
        for k, present in enumerate(self.base.astype(int)):
            for i, j in self.shared:
                if (j, i) in self.shared and j < i:  # equally heavy: once
                    continue
                ends = [n for n in (present[i] - 1, present[i] + 1) if 0 <= n <= field.fit.most[i]]
                others = self._values(k, j)
                states = [(n, m) for n in (present[i], *ends) for m in (present[j], *others)]
                stack = np.tile(points[k], (len(states), 1))
                stack[:, field.layout.counts.start + np.array([i, j])] = states
                white = np.asarray(field.model.whiten(field.model.images(stack)), float)
                table = white.reshape(1 + len(ends), 1 + len(others), -1)
                beyond = table - table[:1] - table[:, :1] + table[0, 0]
                for (a, n), (b, m) in itertools.product(enumerate(ends, 1), enumerate(others, 1)):
                    vector = beyond[a, b].astype(np.float32)
                    entries[k].append((len(self.changes) + len(found), vector))
                    found.append((k * chains + i, n, k * chains + j, m))
        return np.array(found, dtype=int).reshape(-1, 4)

    def _residuals_with(self, changed: dict[int, np.ndarray]) -> np.ndarray:
        field = self.field
        white = field.model.whiten(field.cut(field.image_with(changed)) - field.targets)
        return np.asarray(white, float).reshape(len(field.points), -1)

    def _derivatives(self, entries: list[list[tuple[int, np.ndarray]]]) -> None:
        """Add the vectors of the nuisances, in units of their widths."""
        field, near = self.field, self.field.cells.near
        free, width = self.coordinates.free, np.asarray(self.coordinates.width, float)
        regions, first = len(self.base), self.count
        tangents: list[tuple[list[int], int]] = [
            (group, p) for group in field.cells.apart() for p in range(self.own)
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
                        if near[b, k]:
                            entries[b].append((first + k * self.own + p, effect[b]))
        field.journal.gradient_evaluations += len(tangents)

    def solve(self) -> Solved:
        """The integer model around the present points of the field. Nuisances at a bound that would
        go beyond it stay there."""
        field, count = self.field, self.count
        residual = field.residuals()
        products = np.zeros(len(self.gram))
        for block, r in zip(self.blocks, residual, strict=True):
            products[block.index] += block.vectors @ r
        present = np.rint(field.points[:, field.layout.counts])
        empty = IntegerModel(
            self.base.ravel(),
            *self._table(),
            self.joint,
            0.0,
            np.zeros(count),
            np.zeros((count, count)),
            *self._limits(),
        )
        made = empty.amounts(present.reshape(1, -1))[0]
        # as if the numbers were those that the vectors start from
        constant = float(np.sum(residual**2)) - 2.0 * made @ products[:count]
        constant += made @ self.gram[:count, :count] @ made
        products = products - self.gram[:, :count] @ made
        unit, precision, pull = self._prior()
        slope = products[count:] + pull
        across = self.gram[count:, :count]
        hessian = self.gram[count:, count:] + np.diag(precision)
        held = np.zeros(self.width, dtype=bool)
        for _ in range(3):
            inverse = np.zeros_like(hessian)
            free = np.flatnonzero(~held)
            inverse[np.ix_(free, free)] = np.linalg.pinv(
                hessian[np.ix_(free, free)], hermitian=True
            )
            step = -inverse @ (slope + across @ made)
            outward = ((unit <= 1e-6) & (step < 0.0)) | ((unit >= 1.0 - 1e-6) & (step > 0.0))
            if not np.any(outward & ~held):
                break
            held |= outward
        through = inverse @ across
        numbers = dataclasses.replace(
            empty,
            constant=float(constant - slope @ inverse @ slope),
            linear=products[:count] - across.T @ inverse @ slope,
            quadratic=self.gram[:count, :count] - across.T @ through,
        )
        return Solved(numbers, inverse, slope, across)

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
        unit = np.asarray(self.coordinates.unit(self.field.points), float)
        weight = 1.0 / np.square(np.asarray(self.coordinates.prior_std, float))
        pull = (unit - np.asarray(self.coordinates.prior_mean, float)) * weight

        def flat(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:, :own].ravel(), values[0, own:]])

        return flat(unit), flat(np.tile(weight, (regions, 1))), flat(pull)

    def move(self, solved: Solved, numbers: np.ndarray) -> None:
        """Give the field other `numbers` (regions, chains), and the nuisances their best step."""
        field, regions = self.field, len(self.base)
        changes = solved.numbers.amounts(numbers.reshape(1, -1))[0]
        step = -solved.inverse @ (solved.slope + solved.across @ changes)
        both = np.concatenate(
            [
                step[: regions * self.own].reshape(regions, self.own),
                np.tile(step[regions * self.own :], (regions, 1)),
            ],
            axis=1,
        )
        free = np.array(self.coordinates.free)
        width, low = (np.asarray(v, float) for v in (self.coordinates.width, self.coordinates.low))
        points = field.points.copy()
        unit = np.clip((points[:, free] - low) / width + both, 0.0, 1.0)
        points[:, free] = np.where(both == 0.0, points[:, free], low + unit * width)
        points[:, field.layout.counts] = numbers
        field.points = points
