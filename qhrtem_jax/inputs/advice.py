"""What to do about a warning, and which warnings weigh most."""

from collections.abc import Sequence

ADVICE: tuple[tuple[str, str], ...] = (
    ("the fit failed", "compare this region with the image: it may hold no crystal"),
    ("basin may be wrong", "run with other seeds, or with bounds around what is known"),
    ("is it the right crystal and zone", "check data.sampling_nm, specimen.zone, specimen.up"),
    ("no data.mtf given", "give the camera's MTF; stage mtf measures one from a knife edge"),
    ("is not empty", "name a part of the image without specimen in data.vacuum"),
    ("gives no Debye-Waller factor", "look the values up and give them in specimen.b_nm2"),
    ("the vacuum of the image is", "check what the image was divided by"),
    ("no vacuum was found", "give data.vacuum or data.vacuum_image"),
    ("the origin of the cell is doubtful", "compare the figures of both origins by stage stitch"),
    ("cells that are allowed", "allow more with specimen.max_cells"),
    ("thickness lies at a bound", "widen parameters.thickness.low and .high"),
    ("bound (", "widen parameters.NAME.low and .high, or give a prior from the microscope"),
    ("change of numbers may still improve", "allow more reconstruct.passes or stitch.sweeps"),
    ("times what the noise explains", "refine positions and numbers (structure, reconstruct)"),
    ("overlap, as", "choose regions that share no pixels"),
    ("the noise is taken from the residual", "give data.vacuum, so that errors mean something"),
    ("the misfit exceeds the", "nothing, if the figure of its spectrum convinces you"),
    ("rests on one doubtful atom", "take the exit of this region with that doubt"),
    ("surface atom that is unlikely", "look at this column in the model"),
    ("is not determined by this image", "give it a prior, or fix it, if you know it"),
)
"""(what a warning says, what to do about it), what has the largest consequences first."""


def advice_for(warning: str) -> str | None:
    """What to do about a warning; None where nothing can be done."""
    return next((todo for said, todo in ADVICE if said in warning), None)


def by_consequence(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings in order, the decisive first; those that ask for nothing come last."""

    def rank(warning: str) -> int:
        places = (k for k, (said, _) in enumerate(ADVICE) if said in warning)
        return next(places, len(ADVICE))

    return tuple(sorted(warnings, key=rank))
