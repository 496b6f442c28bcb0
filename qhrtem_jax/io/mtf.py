"""Camera MTF tables."""

from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.csv_files import is_number, read_numbers
from qhrtem_jax.io.files import MIB, number, read_text
from qhrtem_jax.physics.camera import Mtf

LARGEST_FILE = MIB

MOST_COLUMNS = 4
"""Numbers a line of what is taken as a table; lines of more are one list, broken into lines."""

NYQUIST = 0.5
"""1/pixel; tables to above `1.5 * NYQUIST` count in something else."""

MOST_VALUES = 4096
"""Steps that a table is interpolated to, at most."""

LARGEST_VALUE = 2.0
"""An MTF is 1 at frequency 0; a measured one exceeds it by its error."""


def read_mtf(path: Path, scale: float, option: str = "MTF") -> Mtf:
    """MTF of a camera, by the ending of the file: .csv is a table of frequencies in 1/pixel and
    values; all else is Dr. Probe's format: the count, then that many values, one a line. `option`
    is named in errors.

    A .csv may have a header; it begins at frequency 0 (or at its first step, as the MTF is 1 at 0)
    and reaches the Nyquist frequency, 0.5. Steps of its own are interpolated to equal ones. Of the
    other format value 0 belongs to frequency 0, the last one to the camera's Nyquist frequency. A
    file with one number more than counted carries a kind code behind the count; a file whose first
    number is no count is a bare list of values.

    The MTF is that of the camera without the square of its pixels, which is simulated apart.

    **Raises:** `InputError` for a missing, empty, damaged or cut file, for a table of two columns
    that is no .csv, and for values that are no MTF.
    """
    values = (_from_csv if path.suffix.lower() == ".csv" else _from_list)(path, option)
    _check_values(values, f"{option}: {path}")
    try:
        return Mtf(tuple(map(float, values)), scale)
    except InputError as error:
        raise InputError(f"{error} ({path})") from None


def _from_csv(path: Path, option: str) -> np.ndarray:
    def columns_of(record: list[str]) -> list[str] | None:
        if len(record) != 2:
            raise InputError(
                f"{option}: {path} has {len(record)} columns, expected 2: frequency in 1/pixel, "
                "value"
            )
        return None if any(map(is_number, record)) else record

    _, table = read_numbers(path, option, LARGEST_FILE, LARGEST_FILE, columns_of)
    frequency, values = table.T
    steps = np.diff(frequency)
    if frequency.size < 2 or np.any(steps <= 0.0) or frequency[0] < 0.0:
        raise InputError(f"{option}: {path}: expected frequencies from 0 that rise, in 1/pixel")
    if frequency[-1] < NYQUIST * (1.0 - 1e-6):
        raise InputError(
            f"{option}: {path} ends at the frequency {frequency[-1]:g} 1/pixel, expected values to "
            f"Nyquist, {NYQUIST:g}"
        )
    if frequency[-1] > 1.5 * NYQUIST:
        raise InputError(
            f"{option}: {path} has frequencies up to {frequency[-1]:g}, expected 1/pixel, of which "
            f"Nyquist is {NYQUIST:g}"
        )
    if frequency[0] > 1.5 * np.min(steps):
        raise InputError(
            f"{option}: {path} begins at the frequency {frequency[0]:g} 1/pixel, expected 0"
        )
    if frequency[0] > 0.0:
        frequency, values = np.append(0.0, frequency), np.append(1.0, values)
    steps = NYQUIST / max(float(np.min(np.diff(frequency))), NYQUIST / MOST_VALUES)
    return np.interp(np.linspace(0.0, NYQUIST, round(steps) + 1), frequency, values)


def _from_list(path: Path, option: str) -> np.ndarray:
    text = read_text(path, option, LARGEST_FILE)
    lines = [line.split() for line in text.splitlines()]
    try:
        rows = [[number(field) for field in line] for line in lines if line]
    except ValueError as error:
        reason = str(error)[:100]
        raise InputError(f"{option}: {path} is not a table of numbers ({reason})") from None
    _check_columns(rows, f"{option}: {path}")
    numbers = [value for row in rows for value in row]
    if len(numbers) < 2:
        raise InputError(f"{option}: {path} holds {len(numbers)} numbers, expected a table")
    count, rest = numbers[0], numbers[1:]
    if count <= 1.5:  # an MTF value, not a count
        rest = numbers
    elif len(rest) == count + 1:
        rest = rest[1:]
    elif len(rest) != count:
        raise InputError(
            f"{option}: {path} announces {count:g} values and holds {len(rest)}: is it cut off?"
        )
    return np.array(rest)


def _check_columns(rows: list[list[float]], where: str) -> None:
    """Refuses a table of several columns, which would be read as one list."""
    numbers = sum(len(row) for row in rows)
    if rows and rows[0][0] in (numbers - 1, numbers - 2):  # the count says that it is one list
        return
    table = rows if rows and len(rows[0]) > 1 else rows[1:]  # a count or kind may stand above
    columns = len(table[-1]) if len(table) > 1 else 1
    if not 2 <= columns <= MOST_COLUMNS or any(len(row) != columns for row in table):
        return
    first = np.array([row[0] for row in table])
    steps = np.diff(first)
    frequencies = columns == 2 and bool(np.all(steps > 0.0)) and 0.0 <= first[0] < steps[-1] * 1.5
    found = "frequencies beside the values" if frequencies else f"lines of {columns} numbers"
    raise InputError(
        f"{where} holds {found}, expected one value a line, at frequencies of equal "
        "steps from 0 to the camera's Nyquist frequency (first line: their count)"
        + (": with frequencies in 1/pixel, name the file .csv" if frequencies else "")
    )


def _check_values(values: np.ndarray, where: str) -> None:
    """Refuses what no camera has."""
    if values.size < 2:
        raise InputError(f"{where} holds {values.size} values, expected at least 2")
    wrong = ~(np.isfinite(values) & (values >= 0.0) & (values <= LARGEST_VALUE))
    if np.any(wrong):
        at = int(np.argmax(wrong))
        raise InputError(
            f"{where} has the value {values[at]:g} (number {at + 1}), "
            f"expected 0 to {LARGEST_VALUE:g}"
        )
    if not np.any(values):
        raise InputError(f"{where} holds zeros only, expected 1 at frequency 0")
    if values[0] < 1e-3:
        raise InputError(f"{where} begins with {values[0]:g}, expected about 1 at frequency 0")
    if np.all(np.diff(values) > 0.0):
        raise InputError(
            f"{where} rises from {values[0]:g} to {values[-1]:g}, expected an MTF that "
            "falls from frequency 0 to Nyquist: is it in reverse order?"
        )
