"""Atoms that no surface would hold (the paper's section 4.2), by one of two rules.

`isolated`: a single atom across the last two slices at the face where chains end, as the paper has
it. `neighbours`: an atom, at either face, without any of the neighbours that are nearest to its
kind in the crystal.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Num

from qhrtem_jax.physics.columns import Columns, Sites

Rule = Literal["isolated", "neighbours", "none"]

SAME_PLACE_NM = 0.05
"""Species closer than this share a place."""

NEAREST = 1.15
"""Neighbours are nearest within so many times the least distance."""


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """A rule for the surfaces of a crystal whose atoms are on `sites`."""

    sites: Sites
    rule: Rule
    near: Bool[np.ndarray, "sites sites"]  # which sites are nearest neighbours of each

    def lonely(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Bool[np.ndarray, "*batch sites"]:
        """Which atoms the rule rejects, for whole `counts`; `begins` as for the sites."""
        taken = self.sites.occupied(counts, begins)
        if self.rule == "none":
            return np.zeros_like(taken)
        if self.rule == "neighbours":
            return taken & (taken.astype(float) @ self.near.T.astype(float) == 0.0)
        first, last = self.sites.extent(counts, begins)
        place = self.sites.slice
        faces = []
        if self.sites.fill in ("entrance", "centre"):
            faces.append((place >= (last - 2)[..., None]) & (place < last[..., None]))
        if self.sites.fill in ("exit", "centre"):
            faces.append((place >= first[..., None]) & (place < (first + 2)[..., None]))
        outer = [taken & face for face in faces]
        alone = [atoms & (atoms.sum(axis=-1) == 1)[..., None] for atoms in outer]
        return np.asarray(np.any(alone, axis=0))

    def unlikely(
        self,
        counts: Num[np.ndarray, "*batch chains"],
        begins: Int[np.ndarray, "... chains"] | None = None,
    ) -> Bool[np.ndarray, "*batch"]:
        """Whether the rule rejects any atom, for whole `counts`."""
        return np.asarray(np.any(self.lonely(counts, begins), axis=-1))


def surfaces_of(columns: Columns, sites: Sites, rule: Rule) -> Surfaces:
    """The surfaces of a cell that is repeated sideways."""
    size = np.array(columns.size_nm)
    column = np.array([chain.column for chain in columns.chains])[sites.chain]
    place = np.column_stack([columns.xy_nm[column], sites.z * size[2]])
    apart = place[:, None] - place[None, :]
    apart[..., :2] -= np.rint(apart[..., :2] / size[:2]) * size[:2]
    distance = np.linalg.norm(apart, axis=-1)
    distance[distance < SAME_PLACE_NM] = np.inf  # itself, and what shares its place
    least = np.full(sites.chains, np.inf)
    np.minimum.at(least, sites.chain, distance.min(axis=1))  # in the bulk
    return Surfaces(sites, rule, distance <= NEAREST * least[sites.chain][:, None])
