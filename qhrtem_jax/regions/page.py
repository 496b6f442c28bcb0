"""The page of a reconstruct run."""

import numpy as np

from qhrtem_jax.regions.closely import regions_viewer
from qhrtem_jax.regions.drawings import (
    SHOWN,
    count_maps,
    intensities_table,
    region_montage,
    regions_table,
)
from qhrtem_jax.regions.result import RegionsResult
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.result import merit
from qhrtem_jax.reporting.spectrum import spectrum_page


def page(result: RegionsResult) -> Page:
    """The regions, their numbers of atoms, the convergence."""
    rois = result.rois
    mse = np.mean([roi.fit.mse for roi in rois])
    ncc = [100 * roi.fit.ncc for roi in rois]
    thickness = [roi.thickness_nm for roi in rois]
    numbers = (" ".join(f"{c.species}{c.n}" for c in roi.counts) for roi in rois)
    some = f" (the first {SHOWN}, to {rois[SHOWN - 1].name})" if len(rois) > SHOWN else ""
    drawings, tables = spectrum_page(result.noise)
    return Page(
        "Numbers of atoms",
        f"{len(rois)} regions, mean MSE {mse:.6f}, NCC {min(ncc):.2f} to {max(ncc):.2f} %, "
        f"thickness {min(thickness):.2f} to {max(thickness):.2f} nm.",
        (
            Drawing(
                "regions",
                f"Experiment, simulation, difference of the regions{some}",
                lambda path: region_montage(path, result.arrays, rois),
            ),
            Drawing(
                "counts",
                f"Numbers of atoms, faint where the image cannot decide{some}",
                lambda path: count_maps(path, rois, result.cell),
            ),
            Drawing(
                "convergence",
                "Convergence",
                lambda path: figures.convergence(path, result.history, result.noise.variance),
            ),
            *drawings,
        ),
        (regions_table(rois), intensities_table(rois), *tables),
        said=tuple(
            f"{roi.name}: {roi.thickness_nm:.2f} nm, {merit(roi.fit)}, {line}"
            for roi, line in zip(rois, numbers, strict=True)
        ),
        viewer=regions_viewer(result),
    )
