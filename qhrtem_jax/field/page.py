"""The page of a stitch run."""

from qhrtem_jax.field.drawings import (
    displacement_table,
    field_images,
    model_map,
    model_views,
    property_maps,
)
from qhrtem_jax.field.remains_drawings import draw_remains, remains_table
from qhrtem_jax.field.result import FieldResult
from qhrtem_jax.field.trend_drawings import draw_trends, trend_table
from qhrtem_jax.regions.closely import marked
from qhrtem_jax.regions.drawings import intensities_table, regions_table
from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.result import merit
from qhrtem_jax.reporting.spectrum import spectrum_page
from qhrtem_jax.reporting.viewer import MOST_AREAS, MOST_ATOMS, Model, Viewer, differences


def page(result: FieldResult) -> Page:
    """The field, its atoms, maps of its properties, the convergence."""
    sampling, rois, arrays = result.settings.data.sampling, result.rois, result.arrays
    stitched, refined = result.field.fit, result.field.fit_refined
    lines = [f"stitched: {merit(stitched)}"]
    if refined is not None:
        lines.append(f"refined: {merit(refined)}")
    moved = displacement_table(rois)
    best = arrays.get("simulation_refined", arrays["simulation"])
    some = rois[:MOST_AREAS]
    origins = [(float(roi.origin_px[0]), float(roi.origin_px[1])) for roi in some]
    areas, spots = marked(some, result.cell, origins, sampling)
    model = result.structures["field"]
    few = len(model.atoms.symbols) <= MOST_ATOMS
    drawings, tables = spectrum_page(result.noise)
    trends = result.field.trends or ()
    slopes = trend_table(trends)
    if slopes is not None:
        caption = "Displacements and layers over thickness and distance from the edge"
        drawings = (Drawing("trends", caption, lambda path: draw_trends(path, trends)), *drawings)
    remains = result.field.remains
    if remains is not None:
        caption = "What the refined field leaves over: parts, frequencies, and where they lie"
        parts = arrays["remains"]
        drawings = (
            *drawings,
            Drawing("remains", caption, lambda path: draw_remains(path, remains, parts)),
        )
        tables = (*tables, remains_table(remains))
    return Page(
        "The field in three dimensions",
        " ".join(f"{line[0].upper()}{line[1:]}." for line in lines),
        (
            Drawing(
                "field",
                "The field: experiment, simulation, difference, mean-adjusted difference",
                lambda path: field_images(path, arrays, sampling, result.fit),
            ),
            Drawing(
                "model",
                "Regions and numbers of atoms on the image (faint: it cannot decide)",
                lambda path: model_map(path, rois, result.cell, sampling, arrays["experiment"]),
            ),
            Drawing(
                "views",
                "The model in perspective, and from the side; the beam goes down",
                lambda path: model_views(path, model, result.cell),
            ),
            Drawing(
                "maps",
                "Thickness, exit surface, and displacement of the cations",
                lambda path: property_maps(path, rois, result.cell),
            ),
            Drawing(
                "convergence",
                "Convergence",
                lambda path: figures.convergence(path, result.history, result.noise.variance),
            ),
            *drawings,
        ),
        (
            regions_table(rois),
            intensities_table(rois),
            *([] if moved is None else [moved]),
            *([] if slopes is None else [slopes]),
            *tables,
        ),
        said=tuple(lines),
        viewer=Viewer(
            differences(arrays["experiment"], best, result.noise), sampling, areas, spots
        ),
        model=Model(model.size_nm, model.atoms) if few else None,
    )
