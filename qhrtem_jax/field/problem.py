"""What stage `stitch` reads and checks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.field.layout import field_layout
from qhrtem_jax.field.settings import FieldSettings
from qhrtem_jax.inputs.conversion import shown
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.regions import problem as regions_room
from qhrtem_jax.regions.problem import RegionsProblem
from qhrtem_jax.reporting.result import as_json


@dataclasses.dataclass(frozen=True)
class CountedRegions:
    """What an earlier reconstruct run found: points with whole and with relaxed numbers, the
    noise that weighed pixels, and the `rois` of its result."""

    points: Float[np.ndarray, "regions point"]
    relaxed_points: Float[np.ndarray, "regions point"]
    noise: NoiseModel
    rois: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class FieldProblem:
    """Everything that was read and checked; `counted`: None where counting comes first."""

    settings: FieldSettings
    regions: RegionsProblem
    counted: CountedRegions | None


def prepare(settings: FieldSettings, reader: Reader) -> FieldProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used.
    """
    chosen = settings.stitch
    regions = regions_room.prepare(settings, reader, chosen.sweeps if chosen.refine else 0)
    if isinstance(chosen.block, str) and chosen.block != "auto":
        raise InputError(f"stitch.block: found {shown(chosen.block)}, expected [rows,cols] or auto")
    if chosen.charges is not None:
        species = {chain.symbol for chain in regions.specimen.columns.chains}
        if set(chosen.charges) != species:
            raise InputError(
                f"stitch.charges: found {sorted(chosen.charges)}, "
                f"expected one of {sorted(species)} each"
            )
    # refuses regions that cannot be stitched, before any work
    with named("data.rois"):
        field_layout(regions.field, regions.regions, regions.specimen.columns)
    counted = None if chosen.result is None else _read_counts(Path(chosen.result), regions)
    return FieldProblem(settings, regions, counted)


def _read_counts(path: Path, regions: RegionsProblem) -> CountedRegions:
    result, arrays = RunFolder(path).read_result(), RunFolder(path).read_arrays()
    now, before = as_json(regions.settings), result.get("settings")
    if not isinstance(before, dict) or not isinstance(result.get("rois"), list):
        raise InputError(f"stitch.result: {path} holds no reconstruct result")
    for group in ("specimen", "microscope"):
        theirs = before.get(group)
        theirs = theirs if isinstance(theirs, dict) else {}
        for name, value in now[group].items():
            if name not in theirs:  # an option that the version before did not have
                continue
            if (group, name) != ("specimen", "structure") and theirs[name] != value:
                raise InputError(
                    f"stitch.result: {path} was counted with {group}.{name}="
                    f"{theirs[name]!r}, expected {value!r} as in this run"
                )
    origins = [list(r.origin) for r in regions.regions]
    shape = (len(origins), regions.layout.size)
    found = [roi.get("origin_px") for roi in result["rois"] if isinstance(roi, dict)]
    if result.get("stage") != "reconstruct" or found != origins:
        raise InputError(
            f"stitch.result: {path} holds no reconstruct result of these {len(origins)} regions"
        )
    for name in ("points", "relaxed_points"):
        if name not in arrays or arrays[name].shape != shape:
            raise InputError(f"stitch.result: {path}/arrays.npz lacks {name} of shape {shape}")
    known = result["noise"]
    lags, growth = tuple(known["correlation"]), known.get("growth", 0.0)
    noise = NoiseModel(known["variance"], lags, known["source"], growth=growth)
    return CountedRegions(arrays["points"], arrays["relaxed_points"], noise, result["rois"])
