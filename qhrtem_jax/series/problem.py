"""What stage `series` reads and checks."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError, raise_all
from qhrtem_jax.field import prepare as prepare_field
from qhrtem_jax.field.layout import REACH_NM
from qhrtem_jax.field.problem import FieldProblem
from qhrtem_jax.inputs.frames import frames_of, image_name
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.micrograph.stack import registered_mean
from qhrtem_jax.series.settings import SeriesSettings, of_first_frame


@dataclasses.dataclass(frozen=True)
class SeriesProblem:
    """The first frame as a field; all frames, vacuum 1; `shifts`: by how many pixels (x, y) each is
    shifted against the first, by correlation."""

    settings: SeriesSettings
    first: FieldProblem
    frames: Float[np.ndarray, "frames rows cols"]
    shifts: Float[np.ndarray, "frames 2"]


def prepare(settings: SeriesSettings, reader: Reader) -> SeriesProblem:
    """Read and check all input.

    **Raises:** `InputError` for input that cannot be used, a single image among it.
    """
    _refuse(settings)
    settings = of_first_frame(settings)
    frames = frames_of(settings.data, reader)
    if len(frames) < 2:
        raise InputError(
            f"data.image: {image_name(settings.data)} holds one image, expected a stack of frames"
        )
    first = prepare_field(settings, reader)
    shifts = registered_mean(frames)[1]
    drift = np.abs(shifts) * np.array(first.regions.field.frame.sampling_nm)[::-1]
    if drift.max() > REACH_NM:
        worst, where = int(np.argmax(drift.max(axis=1))), image_name(settings.data)
        raise InputError(
            f"data.image: frame {worst} of {where} lies {drift.max():.2f} nm from "
            f"the first, expected at most {REACH_NM} nm: cut the series, or crop its frames"
        )
    return SeriesProblem(settings, first, frames, shifts)


def _refuse(settings: SeriesSettings) -> None:
    """What other stages take, and a series cannot."""
    data, known = settings.data, settings.stitch
    raise_all(
        InputError(f"{name}: found {found}, expected none for a series")
        for name, found in (
            ("data.prepared", data.prepared),
            ("stitch.result", known.result),
            ("stitch.refine", None if known.refine else "false"),
            ("data.stack", data.stack if data.stack not in ("mean", 0) else None),
        )
        if found is not None
    )
