"""Tables of numbers from CSV files."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import number, read_text


def read_numbers(
    path: Path,
    option: str,
    largest_file: int,
    most_rows: int,
    columns_of: Callable[[list[str]], list[str] | None],
) -> tuple[list[str], Float[np.ndarray, "rows columns"]]:
    """Names of the columns, and the rows' values.

    `columns_of` takes the first line and gives the names that it holds, or raises `InputError`;
    None: it is none of names, but a row (the columns are then `1`, `2`, ...).

    **Raises:** `InputError` that names the option, the file, and the line and column of what is
    wrong.
    """
    text = read_text(path, option, largest_file)
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[float]] = []
    columns: list[str] = []
    try:
        for record in reader:
            if not record:
                continue
            if not columns:
                named = columns_of(record)
                columns = [str(k + 1) for k in range(len(record))] if named is None else named
                if named is not None:
                    continue
            if len(rows) == most_rows:
                raise InputError(f"{option}: {path} has more than {most_rows} rows")
            rows.append(_row(columns, record, f"{option}: {path} line {reader.line_num}"))
    except csv.Error as error:  # a field above csv's limit of 128 KiB
        raise InputError(
            f"{option}: {path} line {reader.line_num} cannot be read ({error})"
        ) from None
    if not rows:
        raise InputError(f"{option}: {path} has no rows")
    return columns, np.array(rows)


def is_number(text: str) -> bool:
    """Whether a field of a table holds a number."""
    try:
        number(text)
    except ValueError:
        return False
    return True


def _row(columns: list[str], record: list[str], where: str) -> list[float]:
    if len(record) > len(columns):
        raise InputError(f"{where} has too many values")
    if len(record) < len(columns):
        raise InputError(f"{where} has {len(record)} values, expected {len(columns)}")
    row = []
    for column, text in zip(columns, record, strict=True):
        value = number(text) if is_number(text) else math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{where}, column {column}: found {text[:40]!r}, expected a finite number"
            )
        row.append(value)
    return row
