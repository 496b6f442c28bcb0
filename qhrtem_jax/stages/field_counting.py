"""Certifies the numbers of atoms of a field, and says how probable they are.

Periodic cells with a deferred correction foretell what a change of numbers does, but not how it
reaches into the neighbours: what is nearly as good is simulated in the whole field.
"""

import dataclasses
import logging

import numpy as np

from qhrtem_jax.refine.counting import LEAST_GAIN, search
from qhrtem_jax.refine.integers import marginals
from qhrtem_jax.refine.regions import Coordinates
from qhrtem_jax.stages.field_fit import LATER_STEPS, FieldFit

log = logging.getLogger(__name__)

COMPETITIVE = 40.0
"""Changes whose foretold chi-square is at most this much above the present one are simulated in the
whole field ..."""

MOST_SIMULATED = 6
"""... but at most so many of each region."""

UNSEEN = 0.1
"""Chi-square that changes of several regions may leave where none of them should be seen."""

UNSURE = 1.0
"""Standard deviation of the numbers of all other regions when changes of one region's are compared:
taking them as certain would make all regions together surer than the image is."""


Changes = dict[int, np.ndarray]
"""Other numbers of atoms (chains,) of some regions."""


@dataclasses.dataclass(frozen=True)
class FieldCounts:
    """Compared states of each region with their objectives; `certified`: none of them is better."""

    states: list[np.ndarray]
    chi2: list[np.ndarray]
    certified: np.ndarray

    def probabilities(self, region: int) -> list[dict[int, float]]:
        """Of each number of each chain."""
        return marginals(self.states[region], self.chi2[region])


def certify(field: FieldFit, fixed: np.ndarray, sweeps: int) -> FieldCounts:
    """Change numbers as long as that lowers the whole field's misfit."""
    part = field.layout.counts
    refused: set[tuple[float, ...]] = set()
    number = 0
    # what is tried below may gain by these steps alone, so the present state has them too
    field.advance("whole numbers", fixed, iterations=3, weigh=False)
    field.explain_unknown(LATER_STEPS)
    while True:
        before, unknown, pooled = field.points.copy(), field.unknown, field.pooled
        damping = field.damping
        objective = field.objective()
        found = compare(field)
        best = [int(np.argmin(c)) for c in found.chi2]
        gain = np.array([c[0] - c[k] for c, k in zip(found.chi2, best, strict=True)])
        states = [s[k] for s, k in zip(found.states, best, strict=True)]
        moved = [
            int(k)
            for k in np.argsort(-gain)
            if gain[k] > LEAST_GAIN and (k, *states[k]) not in refused
        ]
        field.journal.note(f"certifying, {len(gain) - len(moved)} of {len(gain)} regions done")
        number += 1
        if not moved or number > sweeps:
            field.advance("final", fixed, iterations=4, weigh=False)
            tried = [gain[k] <= LEAST_GAIN or (k, *states[k]) in refused for k in range(len(gain))]
            return dataclasses.replace(found, certified=np.array(tried))
        # all at once, and where that does not help, the most promising alone
        for trial in (moved, moved[:1]) if len(moved) > 1 else (moved,):
            field.points, field.unknown = before.copy(), unknown
            for k in trial:
                field.points[k, part] = states[k]
            field.advance("whole numbers", fixed, iterations=3, weigh=False)
            field.explain_unknown(LATER_STEPS)
            value = field.objective()
            log.info(
                "%s: chi-square %.1f after %.1f, foretold gain %.1f",
                ", ".join(field.task.regions[k].name for k in trial),
                value,
                objective,
                float(np.sum(gain[trial])),
            )
            if value < objective - LEAST_GAIN:
                break
        else:
            field.points, field.unknown, field.pooled = before, unknown, pooled
            field.damping = damping
            refused.add((moved[0], *states[moved[0]]))


def compare(field: FieldFit) -> FieldCounts:
    """Objectives of changes of each region's numbers, the present ones first."""
    coordinates, local = field.coordinates()
    numbers = field.count_indices()
    free = [k for k in coordinates.free if k not in numbers]
    nuisances = field.fit.bounds.coordinates(free, field.fit.simulator.simulator.dtype)
    own = [k for k, index in enumerate(coordinates.free[:local]) if index not in numbers]
    known, known_pull = _known_of_others(field, own, local, len(free))
    targets, _ = field.deferred_targets()
    foretold = search(
        field.model,
        field.columns,
        field.constraints,
        nuisances,
        field.points,
        targets,
        precision=known,
        slope=known_pull,
        passes=1,
    )
    present = np.rint(field.points[:, field.layout.counts])
    states = [
        _competitive(present[k], foretold.states[k], foretold.chi2[k]) for k in range(len(present))
    ]
    simulated = _simulated(field, nuisances, known, known_pull, states)
    merged_states, merged_chi2 = [], []
    for k, chosen in enumerate(states):
        count = len(chosen)
        # what was not simulated keeps its foretold distance to the present state
        rest = ~np.any(np.all(foretold.states[k][:, None] == chosen[None], axis=2), axis=1)
        base = simulated[k][0] - foretold.objectives[k]
        merged_states.append(np.concatenate([chosen, foretold.states[k][rest]]))
        merged_chi2.append(np.concatenate([simulated[k][:count], foretold.chi2[k][rest] + base]))
    best = np.array([np.argmin(c) for c in merged_chi2])
    certified = np.array(
        [c[0] - c[b] <= LEAST_GAIN for c, b in zip(merged_chi2, best, strict=True)]
    )
    return FieldCounts(merged_states, merged_chi2, certified)


def _competitive(present: np.ndarray, states: np.ndarray, chi2: np.ndarray) -> np.ndarray:
    """The present state, then the best others, each once."""
    found = [present]
    for k in np.argsort(chi2):
        if len(found) > MOST_SIMULATED or chi2[k] > chi2[0] + COMPETITIVE:
            break
        if not any(np.array_equal(states[k], other) for other in found):
            found.append(states[k])
    return np.array(found)


def _simulated(
    field: FieldFit,
    nuisances: Coordinates,
    known: np.ndarray,
    known_pull: np.ndarray,
    states: list[np.ndarray],
) -> np.ndarray:
    """Objectives (regions, MOST_SIMULATED + 1) of states in the whole field, the region's own
    nuisances at their best to first order; infinite where there is no state.

    Regions whose surroundings do not overlap change in the same simulation, as long as nothing else
    changes: on large fields the number of simulations does not grow with the regions.
    """
    regions, size = len(states), MOST_SIMULATED + 1
    near = field.cells.near
    present = field.cut(field.image()) - field.targets
    own = np.repeat(present[:, None], size, axis=1)
    cost = _cost(field, present)
    others = np.full((regions, size), np.inf)
    others[:, 0] = cost.sum() - cost

    def simulate(changed: Changes, j: int) -> bool:
        """Enter what the changes do; False where several do more than is seen near them."""
        residuals = field.cut(field.image_with(changed)) - field.targets
        change = _cost(field, residuals) - cost
        beyond = ~near[:, list(changed)].any(axis=1)
        if len(changed) > 1 and np.sum(np.abs(change[beyond])) > UNSEEN:
            return False
        for k in changed:
            own[k, j] = residuals[k]
            seen = near[:, k] if len(changed) > 1 else np.ones(regions, dtype=bool)
            others[k, j] = others[k, 0] + change[seen & (np.arange(regions) != k)].sum()
        return True

    for group in field.cells.apart():
        for j in range(1, max(len(states[k]) for k in group)):
            changed = {k: states[k][j] for k in group if len(states[k]) > j}
            if not simulate(changed, j):
                for k, counts in changed.items():
                    simulate({k: counts}, j)
    chi2, slopes, hessian = field.model.projections(nuisances, field.points, own)
    unit = np.asarray(nuisances.unit(field.points), float)
    prior = np.diag(1.0 / np.square(np.asarray(nuisances.prior_std, float)))
    pull = (unit - np.asarray(nuisances.prior_mean, float)) @ prior + known_pull
    total = np.full((regions, size), np.inf)
    for k in range(regions):
        inverse = np.linalg.inv(hessian[k] + prior + known[k])
        gradient = slopes[k] + pull[k]
        gain = np.einsum("jp,pq,jq->j", gradient, inverse, gradient)
        total[k] = chi2[k] + others[k] - gain
        total[k, : len(states[k])] += field.constraints.penalty(states[k])
    return total


def _cost(field: FieldFit, residuals: np.ndarray) -> np.ndarray:
    """Whitened sum of squares of each region."""
    return np.sum(np.asarray(field.model.whiten(residuals), float) ** 2, axis=(1, 2))


def _known_of_others(
    field: FieldFit, own: list[int], local: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """What all other regions say about the shared coordinates: their half Hessian (regions, size,
    size) and half gradient (regions, size) around the present point."""
    assert field.pooled is not None
    system = field.pooled.system
    numbers = [k for k in range(local) if k not in own]
    width = np.asarray(field.coordinates()[0].width, float)
    prior = system.local_precision.copy()
    prior[numbers] += np.square(width[numbers] / UNSURE)
    # priors of the shared coordinates come with the nuisances of the search
    schur, slopes = dataclasses.replace(
        system,
        local_precision=prior,
        # that the numbers are fixed at present is no knowledge: `prior` says how sure they are
        active=np.ones_like(system.active),
        shared_active=np.ones_like(system.shared_active),
    ).shares()
    precision = np.zeros((len(schur), size, size))
    precision[:, len(own) :, len(own) :] = np.sum(schur, axis=0) - schur
    gradient = np.zeros((len(schur), size))
    gradient[:, len(own) :] = np.sum(slopes, axis=0) - slopes
    return precision, gradient
