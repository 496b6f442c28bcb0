"""Gauss-Newton steps of many regions that share some of their parameters.

The normal equations have the shape of an arrow: each region's own parameters couple to the shared
ones only. Eliminating the own ones region by region (Schur complement) leaves a system of the size
of the shared ones, so the work grows linearly with the number of regions.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.damping import Descent, Marquardt, begin, descend
from qhrtem_jax.refine.regions import Linearised, RegionModel, Tick, silent
from qhrtem_jax.refine.uncertainty import least_known

FIRST_DAMPING, RULE = 1e-3, Marquardt(ease=6.0, tighten=8.0, least=1e-8)
"""Damping, relative to the diagonals of the normal equations."""

PATIENCE = 6
"""So many refused steps in a row end a pooled fit."""


@dataclasses.dataclass(frozen=True)
class ArrowSystem:
    """Normal equations of regions with `local` own coordinates followed by the shared ones.

    `active`, `shared_active`: coordinates that move; `free`: own ones that are free, whether they
    move or stay at a bound (all shared ones are free).
    """

    hessian: Float[np.ndarray, "regions p p"]
    gradient: Float[np.ndarray, "regions p"]
    local_precision: Float[np.ndarray, " local"]  # of the priors
    local_pull: Float[np.ndarray, "regions local"]  # half the gradient of the priors
    shared_precision: Float[np.ndarray, " shared"]
    shared_pull: Float[np.ndarray, " shared"]
    active: Bool[np.ndarray, "regions local"]
    shared_active: Bool[np.ndarray, " shared"]
    free: Bool[np.ndarray, "regions local"]

    def of_errors(self) -> "ArrowSystem":
        """The system whose covariances are errors: what is at a bound errs like all else that is
        free, or else what depends on it would seem surer than it is; and nothing errs by more than
        a uniform distribution over its bounds."""
        return dataclasses.replace(
            self,
            local_precision=_within_bounds(self.local_precision),
            shared_precision=_within_bounds(self.shared_precision),
            active=self.free,
            shared_active=np.ones_like(self.shared_active),
        )

    def step(
        self, damping: float
    ) -> tuple[Float[np.ndarray, "regions local"], Float[np.ndarray, " shared"]]:
        """(own steps, shared step); `damping` is relative to the
        diagonals (Marquardt)."""
        inverses, through, schur = self._factors(damping)
        own_pull = self._own_pull()
        rest = np.sum(self.gradient[:, own_pull.shape[1] :], axis=0) + self.shared_pull
        rest = rest * self.shared_active - np.einsum("rls,rl->s", through, own_pull)
        shared = -np.linalg.lstsq(schur, rest, rcond=1e-13)[0]
        own = -np.einsum("rlm,rm->rl", inverses, own_pull) - through @ shared
        return own, shared

    def covariances(
        self,
    ) -> tuple[Float[np.ndarray, "regions local local"], Float[np.ndarray, "shared shared"]]:
        """(covariance of each region's own coordinates with the shared ones marginalised,
        covariance of the shared ones); NaN for what does not move."""
        inverses, through, schur = self._factors(0.0)
        shared = np.linalg.pinv(schur, hermitian=True)
        own = inverses + through @ shared @ np.swapaxes(through, 1, 2)
        still = ~(self.active[:, :, None] & self.active[:, None, :])
        shared_still = ~np.logical_and.outer(self.shared_active, self.shared_active)
        return np.where(still, np.nan, own), np.where(shared_still, np.nan, shared)

    def covariance_between(
        self, weights: Float[np.ndarray, " local"]
    ) -> Float[np.ndarray, "regions regions"]:
        """Covariance, between regions, of one linear combination of each one's own coordinates,
        those that do not move left out: what the shared ones leave open moves all together."""
        inverses, through, schur = self._factors(0.0)
        mine = self.active * weights
        alone = np.einsum("rl,rlm,rm->r", mine, inverses, mine)
        together = np.einsum("rl,rls->rs", mine, through)
        return np.diag(alone) + together @ np.linalg.pinv(schur, hermitian=True) @ together.T

    def of_shared(
        self,
    ) -> tuple[Float[np.ndarray, "shared shared"], Float[np.ndarray, " shared"]]:
        """(half the Hessian, half the gradient) by the shared coordinates, own ones at their best,
        without the priors of the shared ones; 0 for those that do not move."""
        _, through, schur = self._factors(0.0)
        free = self.shared_active.astype(float)
        own_pull = self._own_pull()
        slope = np.sum(self.gradient[:, own_pull.shape[1] :], axis=0) * free
        slope = slope - np.einsum("rls,rl->s", through, own_pull)
        return schur - np.diag(free * self.shared_precision + (1.0 - free)), slope

    def eliminated(
        self, damping: float
    ) -> tuple[
        Float[np.ndarray, "regions local local"],
        Float[np.ndarray, "regions local shared"],
        Float[np.ndarray, "shared shared"],
    ]:
        """(inverse own blocks, those times the couplings, inverse Schur complement); what does
        not move is a unit block."""
        inverses, through, schur = self._factors(damping)
        return inverses, through, np.linalg.pinv(schur, hermitian=True)

    def diagonals(self) -> tuple[Float[np.ndarray, "regions local"], Float[np.ndarray, " shared"]]:
        """Diagonals of half the Hessians of (own, shared) coordinates, without priors."""
        local = self.active.shape[1]
        diagonal = np.einsum("rii->ri", self.hessian)
        return diagonal[:, :local], np.sum(diagonal[:, local:], axis=0)

    def _own_pull(self) -> np.ndarray:
        local = self.active.shape[1]
        return (self.gradient[:, :local] + self.local_pull) * self.active

    def _factors(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(inverse own blocks, those times the couplings, Schur complement)."""
        local = self.active.shape[1]
        free, shared_free = self.active.astype(float), self.shared_active.astype(float)
        blocks = self.hessian[:, :local, :local] * free[:, :, None] * free[:, None, :]
        diagonal = np.einsum("rii->ri", blocks) * damping
        extra = free * (self.local_precision + diagonal) + (1.0 - free)
        inverses = np.linalg.inv(blocks + extra[:, :, None] * np.eye(local))
        couplings = self.hessian[:, :local, local:] * free[:, :, None] * shared_free
        through = inverses @ couplings
        corner = np.sum(self.hessian[:, local:, local:], axis=0)
        corner = corner * np.outer(shared_free, shared_free)
        corner = corner + np.diag(
            shared_free * (self.shared_precision + damping * np.diagonal(corner))
            + (1.0 - shared_free)
        )
        schur = corner - np.einsum("rls,rlt->st", couplings, through)
        return inverses, through, schur


def _within_bounds(precision: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    with np.errstate(divide="ignore"):
        return 1.0 / np.square(least_known(1.0 / np.sqrt(precision)))


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Where a pooled fit stands: points, objective, its last linearisation and normal equations."""

    points: Float[np.ndarray, "regions point"]
    objective: float
    linearised: Linearised
    system: ArrowSystem
    jacobians: int


def pooled_fit(
    model: RegionModel,
    coordinates: Coordinates,
    local: int,
    points: Float[np.ndarray, "regions point"],
    targets: Float[np.ndarray, "regions rows cols"],
    active: Bool[np.ndarray, "regions local"],
    *,
    iterations: int = 6,
    tolerance: float = 1e-4,
    tick: Tick = silent,
) -> Pooled:
    """Levenberg-Marquardt over all regions with shared coordinates.

    **Arguments:** `coordinates`: `local` own ones, then the shared ones. The values of a shared
    one may differ between regions by constants (defocus at different heights): all regions take the
    same step. `active`: which own coordinates are free. The priors of shared
    coordinates are counted once, at the first region.
    """
    coordinates_f64 = coordinates.host()
    unit, precision = coordinates_f64.to_unit(points), coordinates_f64.precision

    def evaluate(u: np.ndarray) -> tuple[float, Linearised]:
        lin = model.linearise(coordinates, coordinates.place(points, u), targets, tick)
        pulls = np.square(coordinates.pull(u))
        return float(np.sum(lin.cost) + np.sum(pulls[:, :local]) + np.sum(pulls[0, local:])), lin

    def normal_equations(u: np.ndarray, lin: Linearised) -> ArrowSystem:
        pull = coordinates.pull(u) / coordinates_f64.prior_std
        gradient = lin.gradient[:, :local] + pull[:, :local]
        own = u[:, :local]
        outward = ((own <= 0.0) & (gradient > 0.0)) | ((own >= 1.0) & (gradient < 0.0))
        slope = np.sum(lin.gradient[:, local:], axis=0) + pull[0, local:]
        shared = u[:, local:]
        blocked = (np.any(shared <= 0.0, axis=0) & (slope > 0.0)) | (
            np.any(shared >= 1.0, axis=0) & (slope < 0.0)
        )
        return ArrowSystem(
            np.asarray(lin.hessian),
            np.asarray(lin.gradient),
            precision[:local],
            pull[:, :local],
            precision[local:],
            pull[0, local:],
            active & ~outward,
            ~blocked,
            active,
        )

    def stand(u: np.ndarray, lin: Linearised) -> tuple[np.ndarray, Linearised, ArrowSystem]:
        return u, lin, normal_equations(u, lin)

    def propose(
        here: tuple[np.ndarray, Linearised, ArrowSystem], damping: float
    ) -> tuple[tuple[np.ndarray, Linearised, ArrowSystem], float, float]:
        own, shared = here[2].step(damping)
        move = np.concatenate([own, np.broadcast_to(shared, (len(own), len(shared)))], axis=1)
        trial = np.clip(here[0] + move, 0.0, 1.0)
        objective, lin = evaluate(trial)
        return stand(trial, lin), objective, np.inf

    def go_on(state: Descent) -> bool:
        settled = state.refused == 0 and state.fall < tolerance * state.objective
        done = state.accepted == iterations or (state.accepted > 0 and settled)
        return not done and state.refused < PATIENCE

    objective, lin = evaluate(unit)
    state = begin(stand(unit, lin), objective, FIRST_DAMPING)
    state = descend(state, propose, RULE, go_on)
    unit, lin, system = state.best
    jacobians = (state.tried + 1) * len(points)
    return Pooled(coordinates.place(points, unit), state.objective, lin, system, jacobians)
