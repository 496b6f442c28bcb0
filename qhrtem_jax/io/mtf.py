"""Camera MTF tables."""

from pathlib import Path

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.camera import Mtf


def read_mtf(path: Path, scale: float) -> Mtf:
    """MTF of a text file in Dr. Probe's format: the count, then that many values, one a line.

    Value 0 belongs to frequency 0, the last one to the camera's Nyquist frequency. A file with one
    number more than counted carries a kind code behind the count; a file whose first number is no
    count is a bare list of values.

    **Raises:** `InputError` for a missing, empty, damaged or cut file.
    """
    if not path.is_file():
        raise InputError(f"data.mtf: no file {path}")
    text = path.read_text(encoding="utf-8", errors="replace").split()
    try:
        numbers = [float(field) for field in text]
    except ValueError as error:
        raise InputError(f"data.mtf: {path} is not a table of numbers ({error})") from None
    if len(numbers) < 2:
        raise InputError(f"data.mtf: {path} holds {len(numbers)} numbers, expected a table")
    count, rest = numbers[0], numbers[1:]
    if count <= 1.5:  # an MTF value, not a count
        rest = numbers
    elif len(rest) == count + 1:
        rest = rest[1:]
    elif len(rest) != count:
        raise InputError(
            f"data.mtf: {path} announces {count:g} values and holds {len(rest)}: is it cut off?"
        )
    try:
        return Mtf(tuple(rest), scale)
    except InputError as error:
        raise InputError(f"{error} ({path})") from None
