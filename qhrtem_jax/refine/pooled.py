"""Gauss-Newton steps of many regions that share some of their parameters.

The normal equations have the shape of an arrow: each region's own parameters couple to the shared
ones only. Eliminating the own ones region by region (Schur complement) leaves a system of the size
of the shared ones, so the work grows linearly with the number of regions.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ArrowSystem:
    """Normal equations of regions with `local` own coordinates followed by the shared ones.

    `active`: own coordinates that are free (regions, local); others do not move.
    """

    hessian: np.ndarray  # (regions, p, p)
    gradient: np.ndarray  # (regions, p)
    local_precision: np.ndarray  # (local,), of the priors
    local_pull: np.ndarray  # (regions, local), half the gradient of the priors
    shared_precision: np.ndarray  # (shared,)
    shared_pull: np.ndarray  # (shared,)
    active: np.ndarray
    shared_active: np.ndarray

    def step(self, damping: float) -> tuple[np.ndarray, np.ndarray, float]:
        """(own steps (regions, local), shared step (shared,), predicted fall of the objective).

        `damping` is relative to the diagonals (Marquardt).
        """
        own, shared, _ = self._solve(damping)
        return own, shared, self._predicted(own, shared)

    def covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """(covariance of each region's own coordinates (regions, local, local) with the shared
        ones marginalised, covariance of the shared ones)."""
        _, _, (inverses, couplings, schur) = self._solve(0.0)
        shared = np.linalg.pinv(schur, hermitian=True)
        through = inverses @ couplings
        own = inverses + through @ shared @ np.swapaxes(through, 1, 2)
        return own, shared

    def _solve(self, damping: float) -> tuple[np.ndarray, np.ndarray, tuple]:
        local = self.active.shape[1]
        free = self.active.astype(float)
        blocks = self.hessian[:, :local, :local] * free[:, :, None] * free[:, None, :]
        diagonal = np.einsum("rii->ri", blocks) * damping
        extra = free * (self.local_precision + diagonal) + (1.0 - free)
        blocks = blocks + extra[:, :, None] * np.eye(local)
        couplings = self.hessian[:, :local, local:] * free[:, :, None] * self.shared_active
        shared_free = self.shared_active.astype(float)
        corner = np.sum(self.hessian[:, local:, local:], axis=0) * np.outer(
            shared_free, shared_free
        )
        corner = corner + np.diag(
            shared_free * (self.shared_precision + damping * np.diagonal(corner))
            + (1.0 - shared_free)
        )
        own_pull = (self.gradient[:, :local] + self.local_pull) * free
        shared_pull = (np.sum(self.gradient[:, local:], axis=0) + self.shared_pull) * shared_free
        inverses = np.linalg.inv(blocks)
        through = inverses @ couplings
        schur = corner - np.einsum("rls,rlt->st", couplings, through)
        rest = shared_pull - np.einsum("rls,rl->s", through, own_pull)
        shared = -np.linalg.lstsq(schur, rest, rcond=1e-13)[0]
        own = -np.einsum("rlm,rm->rl", inverses, own_pull) - through @ shared
        return own, shared, (inverses, couplings, schur)

    def _predicted(self, own: np.ndarray, shared: np.ndarray) -> float:
        whole = np.concatenate([own, np.broadcast_to(shared, (len(own), shared.size))], axis=1)
        fall = -2.0 * np.sum(self.gradient * whole) - np.einsum(
            "rp,rpq,rq->", whole, self.hessian, whole
        )
        fall -= np.sum(2.0 * self.local_pull * own + self.local_precision * own**2)
        fall -= np.sum(2.0 * self.shared_pull * shared + self.shared_precision * shared**2)
        return float(fall)
