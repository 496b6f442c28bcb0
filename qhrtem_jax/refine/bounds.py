"""Bounds and priors of whole points, and the coordinates that are made of some of them."""

import dataclasses
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.refine.coordinates import Coordinates, make_coordinates

LARGEST_SHIFT_NM = 0.05
LARGEST_STRETCH = 5.0
"""Bounds of the MTF's stretch, in standard deviations of its prior."""

Values = Float[np.ndarray, " point"]


@dataclasses.dataclass(frozen=True)
class PointBounds:
    """Bounds and priors of every coordinate of a point, and which imaging parameters are free.

    `std` is infinite where there is no prior; `camera`: free coordinates of the camera. What a
    method returns differs from the bounds that it is asked of, which stay what they are.
    """

    layout: Layout
    low: Values
    high: Values
    mean: Values
    std: Values
    imaging: tuple[str, ...] = ()
    camera: tuple[int, ...] = ()

    def with_imaging(
        self, name: str, low: float, high: float, mean: float = 0.0, std: float = np.inf
    ) -> "PointBounds":
        """One more free imaging parameter."""
        found = self._with(INDEX[name], low=low, high=high, mean=mean, std=std)
        return dataclasses.replace(found, imaging=(*self.imaging, name))

    def with_reach(self, name: str, half_width: float, centre: float) -> "PointBounds":
        """An imaging parameter may go so far from `centre`, beyond its bounds where needed."""
        k = INDEX[name]
        low, high = min(self.low[k], centre - half_width), max(self.high[k], centre + half_width)
        return self._with(k, low=low, high=high)

    def with_vector(self, vector: Float[np.ndarray, " n"]) -> "PointBounds":
        """Wide enough for the imaging parameters `vector`: values found with other bounds."""
        found = self
        for name in self.imaging:
            found = found.with_reach(name, 0.0, float(vector[INDEX[name]]))
        return found

    def without_priors(self, *names: str) -> "PointBounds":
        """Without the priors that belong to another image (C1 and A0 of the averaged one)."""
        return self._with(self.indices(names), std=np.inf)

    def with_offset(self, name: str, offset: float) -> "PointBounds":
        """Bounds and prior of an imaging parameter `offset` higher: it refers to another plane."""
        k = INDEX[name]
        moved = {of: getattr(self, of)[k] + offset for of in ("low", "high", "mean")}
        return self._with(k, **moved)

    def with_shifts(self, std_nm: float) -> "PointBounds":
        """Columns within `LARGEST_SHIFT_NM` of the cell's, with a prior."""
        most = LARGEST_SHIFT_NM
        return self._with(self.layout.shifts, low=-most, high=most, std=std_nm)

    def with_occupancies(self, given: Float[np.ndarray, " chains"], std: float) -> "PointBounds":
        """Occupancies within 0..1, with a prior around what the cell says."""
        return self._with(self.layout.occupancies, low=0.0, high=1.0, mean=given, std=std)

    def with_counts(self, most: Float[np.ndarray, " chains"]) -> "PointBounds":
        """Numbers of atoms from none to `most`."""
        return self._with(self.layout.counts, low=0.0, high=most)

    def with_mtf_stretch(self, std: float) -> "PointBounds":
        """The MTF's frequencies, along either axis, known to the relative error `std`; certain
        where that is 0."""
        if std <= 0.0:
            return self
        part, most = self.layout.mtf_stretch, LARGEST_STRETCH * std
        found = self._with(part, low=-most, high=most, std=std)
        return dataclasses.replace(found, camera=tuple(self.of(part)))

    def free_names(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are free."""
        return [name for name in names if name in self.imaging]

    def indices(self, names: Iterable[str]) -> list[int]:
        """Places of imaging parameters in a point."""
        return [INDEX[name] for name in names]

    def of(self, part: slice) -> list[int]:
        """Places of a part of the layout in a point."""
        return list(range(part.start, part.stop))

    def coordinates(self, free: Iterable[int], dtype: jnp.dtype) -> Coordinates:
        """The coordinates of a fit of what is `free`."""
        return make_coordinates(list(free), self.low, self.high, self.mean, self.std, dtype)

    def _with(self, at: int | slice | list[int], **values: float | np.ndarray) -> "PointBounds":
        arrays = {name: getattr(self, name).copy() for name in values}
        for name, value in values.items():
            arrays[name][at] = value
        return dataclasses.replace(self, **arrays)


def point_bounds(layout: Layout) -> PointBounds:
    """Bounds -1..1 without priors, no imaging parameter free."""
    one, size = np.ones(layout.size), layout.size
    return PointBounds(layout, -one, one, np.zeros(size), np.full(size, np.inf))
