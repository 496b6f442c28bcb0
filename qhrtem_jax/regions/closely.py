"""Regions to be looked at closely."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.regions.entry import RegionEntry
from qhrtem_jax.regions.result import RegionsResult
from qhrtem_jax.reporting.viewer import (
    MOST_AREAS,
    Area,
    Spot,
    Viewer,
    cell_at,
    differences,
    fit_says,
    image_shift,
    spots_of,
)


def regions_viewer(result: RegionsResult) -> Viewer:
    """The regions side by side."""
    rois, arrays = result.rois[:MOST_AREAS], result.arrays
    across = int(np.ceil(np.sqrt(len(rois))))
    experiment, simulation = (
        _tiled(arrays[name][: len(rois)].astype(float), across)
        for name in ("experiment", "simulation")
    )
    rows, cols = arrays["experiment"].shape[1:]
    origins = [(float(k // across * rows), float(k % across * cols)) for k in range(len(rois))]
    sampling = result.settings.data.sampling
    areas, spots = marked(rois, result.cell, origins, sampling)
    return Viewer(differences(experiment, simulation, result.noise), sampling, areas, spots)


def marked(
    rois: Sequence[RegionEntry],
    columns: Columns,
    origins: Sequence[tuple[float, float]],
    sampling_nm: tuple[float, float],
) -> tuple[tuple[Area, ...], tuple[Spot, ...]]:
    """Regions and columns where these regions' first pixels, (row, col), are."""
    areas, spots = [], []
    for k, (roi, origin) in enumerate(zip(rois, origins, strict=True)):
        place, corners = cell_at(origin, columns, sampling_nm, image_shift(roi.parameters))
        c1 = roi.parameters.get("C1")
        says = [("thickness", f"{roi.thickness_nm:.2f} nm"), *fit_says(roi.fit)]
        if c1 is not None:
            says.append(("C1", f"{c1.value:.2f} nm"))
        if roi.exit_rests_on is not None:
            says.append(("exit rests on", roi.exit_rests_on))
        height = getattr(roi, "height_cells", None)
        if height is not None:
            says.append(("height", f"{height} cells"))
        areas.append(Area(roi.name, corners, tuple(says), roi.thickness_nm, height))
        spots += spots_of(roi.columns, roi.counts, place, k)
    return tuple(areas), tuple(spots)


def _tiled(
    images: Float[np.ndarray, "n rows cols"], across: int
) -> Float[np.ndarray, "all_rows all_cols"]:
    """Images side by side, so many in a row; 1 where there is none."""
    count, rows, cols = images.shape
    down = -(-count // across)
    tiles = np.ones((down * across, rows, cols))
    tiles[:count] = images
    return tiles.reshape(down, across, rows, cols).swapaxes(1, 2).reshape(down * rows, -1)
