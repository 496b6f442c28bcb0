"""The page of a prepare run."""

import numpy as np

from qhrtem_jax.preparation.drawings import cells_on_image
from qhrtem_jax.preparation.result import PreparationResult
from qhrtem_jax.reporting.numbers import sides, with_error
from qhrtem_jax.reporting.page import Drawing, Page, Table
from qhrtem_jax.reporting.viewer import MOST_AREAS, Area, Layer, Viewer


def page(result: PreparationResult) -> Page:
    """The cells on the image, and the numbers of the lattice."""
    lattice, vacuum = result.lattice, result.vacuum
    lengths = [float(np.hypot(*v)) for v in (lattice.a_px, lattice.b_px)]
    angle = with_error(lattice.angle_deg, lattice.std_angle_deg)
    both = (with_error(side, lattice.std_sampling * side) for side in lattice.sampling_nm)
    sampling = " x ".join(dict.fromkeys(both))
    line = (
        f"{len(result.rois)} whole cells, {lengths[0]:.2f} x {lengths[1]:.2f} pixels, turned by "
        f"{angle} degrees, {sampling} nm per pixel"
    )
    rows = [
        ["a (x, y)", f"{lattice.a_px[0]:.3f}, {lattice.a_px[1]:.3f} px"],
        ["b (x, y)", f"{lattice.b_px[0]:.3f}, {lattice.b_px[1]:.3f} px"],
        ["angle of a", f"{angle} degrees"],
        ["sampling by the crystal", f"{sampling} nm"],
        ["sampling by the file", _known(lattice.file_sampling_nm)],
        ["share of the spectrum in reflections", f"{100 * lattice.explained:.0f} %"],
        ["bad pixels", str(result.bad_pixels)],
    ]
    if vacuum is not None:
        rows += [
            ["vacuum", f"{vacuum.level:.5g} in {list(vacuum.region)}"],
            ["variance of its noise", f"{vacuum.noise_variance:.3g}"],
        ]
    return Page(
        "Cells of the crystal in the image",
        f"{line}.",
        (Drawing("cells", "The cells that were found", lambda path: cells_on_image(path, result)),),
        (Table("Lattice and vacuum", ["what", "found"], rows),),
        said=(line,),
        viewer=Viewer(
            (Layer("experiment", result.arrays["experiment"]),),
            (lattice.sampling_nm[0], lattice.sampling_nm[1]),
            tuple(
                Area(
                    roi.name,
                    roi.corners_px,
                    (("first pixel, prepared", ", ".join(map(str, roi.origin_px))),),
                )
                for roi in result.rois[:MOST_AREAS]
            ),
        ),
    )


def _known(sampling: tuple[float, float] | None) -> str:
    return "none" if sampling is None else f"{sides(sampling)} nm"
