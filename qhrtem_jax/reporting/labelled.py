"""A result as arrays with names, coordinates and units: `fit.nc`, NetCDF4 that xarray, HyperSpy and
others open."""

from typing import Any

import numpy as np

from qhrtem_jax.io.large_arrays import large
from qhrtem_jax.io.netcdf import Labelled, Variable
from qhrtem_jax.reporting.result import Result

INTENSITY = "1 (vacuum = 1)"

IMAGES = {
    "experiment": "the image that is explained",
    "simulation": "its best simulation",
    "simulation_refined": "the simulation after the joint refinement",
    "difference": "simulation less experiment",
    "image": "images of the table's rows",
}
"""Arrays of results that are images, by name."""


FIRST = {"simulate": "row", "series": "frame"}
"""What images are stacked by, in stages where that is not regions."""


def labelled(result: Result) -> Labelled | None:
    """What a result has of images, parameters and numbers of atoms; None where it has no image, or
    more than the memory should hold twice."""
    images = {n: a for n, a in result.arrays.items() if n in IMAGES and np.ndim(a) in (2, 3)}
    if not images or any(large(image.nbytes) for image in images.values()):
        return None
    content = result.to_json()
    shape = next(iter(images.values())).shape
    first = FIRST.get(result.stage, "region")
    dims = ("y", "x") if len(shape) == 2 else (first, "y", "x")
    variables: dict[str, Variable] = {}
    sampling = _sampling(content)
    for axis, count, step in zip(("y", "x"), shape[-2:], sampling, strict=True):
        about = {"units": "nm", "long_name": f"{axis}, 0 at the middle of the first pixel"}
        variables[axis] = Variable((axis,), step * np.arange(count), about)
    for name, image in images.items():
        if image.shape == shape:
            about = {"units": INTENSITY, "long_name": IMAGES[name]}
            variables[name] = Variable(dims, np.asarray(image, np.float32), about)
    variables |= _parameters(content.get("parameters"))
    variables |= _numbers(content.get("rois"))
    known = {"title": f"qhrtem_jax, stage {result.stage}", "source": _version(content)}
    if isinstance(content.get("fit"), dict):
        known |= {f"fit_{k}": v for k, v in content["fit"].items() if v is not None}
    if isinstance(content.get("verdict"), dict):
        known["verdict"] = f"{content['verdict']['word']}: {content['verdict']['why']}"
    return Labelled(variables, known)


def _sampling(content: dict[str, Any]) -> tuple[float, float]:
    """(row, col) nm per pixel; of a prepared image as the file has it."""
    lattice = content.get("lattice")
    found = lattice["sampling_nm"] if lattice else content["settings"]["data"]["sampling_nm"]
    pair = found if isinstance(found, list | tuple) else (found, found)
    return float(pair[0] or 1.0), float(pair[1] or 1.0)


def _version(content: dict[str, Any]) -> str:
    return f"qhrtem_jax {content['versions'].get('qhrtem_jax', '')}".strip()


def _parameters(table: dict[str, dict[str, Any]] | None) -> dict[str, Variable]:
    if not table:
        return {}
    dims = ("parameter",)
    texts = {"parameter": list(table), "parameter_unit": [p["unit"] for p in table.values()]}
    found = {name: Variable(dims, np.array(values, object), {}) for name, values in texts.items()}
    for key, about in (
        ("value", "imaging parameters, units in parameter_unit"),
        ("std", "standard errors, scaled by the misfit; NaN where there is none"),
    ):
        values = [np.nan if p[key] is None else float(p[key]) for p in table.values()]
        found[f"parameter_{key}"] = Variable(dims, np.array(values), {"long_name": about})
    return found


def _numbers(rois: list[dict[str, Any]] | None) -> dict[str, Variable]:
    """Numbers of atoms, where all regions have the same chains."""
    if not rois or not all("counts" in roi for roi in rois):
        return {}
    chains = [f"{c['species']} {c['x']:.4f} {c['y']:.4f}" for c in rois[0]["counts"]]
    both = ("region", "chain")
    n = np.array([[c["n"] for c in roi["counts"]] for roi in rois], dtype=np.int64)
    sure = [[c["probability"].get(str(c["n"]), 0.0) for c in roi["counts"]] for roi in rois]
    thickness = np.array([roi["thickness_nm"] for roi in rois], dtype=float)
    about = "species, x and y in fractions of the cell"
    return {
        "region": Variable(("region",), np.array([roi["name"] for roi in rois], object), {}),
        "chain": Variable(("chain",), np.array(chains, object), {"long_name": about}),
        "atoms": Variable(both, n, {"long_name": "numbers of atoms"}),
        "probability": Variable(both, np.array(sure), {"long_name": "that the number is right"}),
        "thickness": Variable(("region",), thickness, {"units": "nm"}),
    }
