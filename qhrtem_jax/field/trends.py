"""Displacements, rumpling and distances of layers against thickness and distance from the edge.

All are linear in the shifts of the columns, so their errors are those of the joint fit, with what
the regions have in common through the imaging parameters that they share.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from qhrtem_jax.field.entries import region_scales
from qhrtem_jax.field.model import FieldModel, JointState, free_coordinates
from qhrtem_jax.field.properties import ANION, cation_weights, displaced_species
from qhrtem_jax.field.result import Trend, TrendLine
from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.refine.regression import line_through
from qhrtem_jax.refine.uncertainty import UNDETERMINED, known_without_image

PM = 1e3
SAME_LAYER_NM = 0.03
"""Columns whose ideal places along an axis are closer belong to one layer."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A name, and what of the columns' shifts along x (`axis` 0) or y (1) makes it up."""

    name: str
    axis: int
    weights: Float[np.ndarray, " columns"]


def quantities(columns: Columns) -> Iterator[Quantity]:
    """What can be said of one cell: the mean displacement of cations against the anions beside
    them; of each layer of columns with both, the rumpling (cations against anions, across the
    layer); the change of distance from each layer to the next within the cell."""
    species, count = displaced_species(columns), len(columns.xy)
    if species is not None:
        mean = cation_weights(columns, species).mean(axis=0)
        for axis, name in enumerate("xy"):
            yield Quantity(f"{species} against {ANION}, along {name}", axis, mean)
    kinds = [{c.symbol for c in columns.chains if c.column == k} for k in range(count)]
    anions = np.array([kind == {ANION} for kind in kinds])
    cations = np.array([ANION not in kind for kind in kinds])
    for axis, name in ((1, "y"), (0, "x")):
        layers = _layers(columns, axis)
        if len(layers) == 1:
            continue
        for place, layer in layers:
            here = np.isin(np.arange(count), layer)
            above, below = here & cations, here & anions
            if above.any() and below.any():
                weights = above / above.sum() - below / below.sum()
                yield Quantity(f"rumpling of the layer at {name} = {place:.3f}", axis, weights)
        for (low, one), (high, other) in itertools.pairwise(layers):
            weights = np.zeros(count)
            weights[other] += 1.0 / len(other)
            weights[one] -= 1.0 / len(one)
            between = f"{name} = {low:.3f} and {high:.3f}"
            yield Quantity(f"distance of the layers at {between}", axis, weights)


def _layers(columns: Columns, axis: int) -> list[tuple[float, list[int]]]:
    """(place, columns) of each layer along an axis, of a cell that is repeated: its border parts no
    layer."""
    at, size = np.mod(columns.xy[:, axis], 1.0), columns.size_nm[axis]
    order = np.argsort(at, kind="stable")
    gaps = np.diff(at[order], append=at[order[0]] + 1.0)
    first = (int(np.argmax(gaps)) + 1) % len(at)
    order = np.roll(order, -first)
    at = at[order[0]] + np.mod(at - at[order[0]], 1.0)  # from the widest gap on
    borders = np.flatnonzero(np.diff(at[order]) * size > SAME_LAYER_NM) + 1
    layers = [(float(np.mean(at[layer]) % 1.0), layer) for layer in np.split(order, borders)]
    return sorted((place, [int(k) for k in layer]) for place, layer in layers)


def trends(
    model: FieldModel,
    state: JointState,
    thickness_nm: Float[np.ndarray, " regions"],
    simulations: Float[np.ndarray, "regions rows cols"],
) -> tuple[Trend, ...]:
    """Trends over the regions of a refined field that looks like `simulations`."""
    layout = model.layout
    scales = [known for _, known in region_scales(model, state, simulations)]
    scale = np.array([known.noise * known.misfit for known in scales])
    found = free_coordinates(model, state)
    free = found.coordinates.index[: found.own]
    width = found.coordinates.host().width[: found.own]
    prior_std = known_without_image(found.coordinates)[: found.own]
    edge = from_edge_nm(model)
    shifts = state.points[:, layout.shifts].reshape(len(state.points), -1, 2)
    every, errors = [], state.normal_equations.of_errors()
    for quantity in quantities(model.columns):
        whole = np.zeros((len(model.columns.xy), 2))
        whole[:, quantity.axis] = quantity.weights
        place = np.zeros(layout.size)
        place[layout.shifts] = whole.ravel()
        mine = place[free] * width
        covariance = errors.covariance_between(mine)
        # what priors or bounds hold is no measurement, and would flatten or steepen the line
        before = np.sqrt(np.sum((mine * prior_std) ** 2))
        known = np.sqrt(np.diagonal(covariance)) < UNDETERMINED * before
        known &= np.all(state.normal_equations.active[:, mine != 0.0], axis=1)
        if not known.any():
            continue
        covariance = covariance * np.outer(scale, scale) * PM**2
        values = PM * shifts[:, :, quantity.axis] @ quantity.weights
        std = np.sqrt(np.diagonal(covariance))
        fitted = values[known], covariance[np.ix_(known, known)]
        every.append(
            Trend(
                quantity.name,
                tuple(float(v) for v in values),
                tuple(float(s) if k else None for s, k in zip(std, known, strict=True)),
                tuple(float(t) for t in thickness_nm),
                None if edge is None else tuple(float(e) for e in edge),
                _line(thickness_nm[known], *fitted),
                None if edge is None else _line(edge[known], *fitted),
            )
        )
    return tuple(every)


def _line(at: np.ndarray, values: np.ndarray, covariance: np.ndarray) -> TrendLine | None:
    found = line_through(at, values, covariance)
    if found is None:
        return None
    return TrendLine(
        slope_pm_per_nm=found.slope,
        std_slope_pm_per_nm=found.std_slope,
        p_value=found.p_value,
        mean_pm=found.mean,
        std_mean_pm=found.std_mean,
        covariance_pm2_per_nm=found.covariance,
        scatter_pm=found.scatter,
    )


def from_edge_nm(model: FieldModel) -> Float[np.ndarray, " regions"] | None:
    """Distance of the middle of each region's cell from the nearest cell of the image that is
    vacuum; None where the image shows none."""
    cells, size = model.cells, np.array(model.columns.size_nm[:2][::-1])
    extent = np.array(model.problem.field.image.shape) * model.problem.field.frame.sampling_nm
    seen = np.argwhere(np.ones(cells.shape, dtype=bool))
    crystal = np.isin(np.arange(len(seen)), [*cells.region_cells, *cells.unknown_cells])
    vacuum = seen[~crystal & np.all((seen + 0.5) * size < extent, axis=1)]
    if not len(vacuum):
        return None
    middle = seen[cells.region_cells] + 0.5
    gap = np.maximum(np.abs(middle[:, None] - (vacuum + 0.5)) - 0.5, 0.0) * size
    return np.min(np.hypot(*np.moveaxis(gap, -1, 0)), axis=1)
