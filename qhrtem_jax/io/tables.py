"""Tables of parameter vectors from CSV files."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import MIB, number, read_text
from qhrtem_jax.physics.parameters import NAMES

OPTION = "simulate.table"

LARGEST_FILE = 32 * MIB
MOST_ROWS = 100_000


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Names of the columns, and the rows' values (rows, columns), of a table with a header.

    **Raises:** `InputError` that names the file, and the line and column of what is wrong.
    """
    text = read_text(path, OPTION, LARGEST_FILE)
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[float]] = []
    columns: list[str] = []
    try:
        for record in reader:
            if not record:
                continue
            if not columns:
                columns = record
                _check_columns(columns, path)
                continue
            if len(rows) == MOST_ROWS:
                raise InputError(f"simulate.table: {path} has more than {MOST_ROWS} rows")
            rows.append(_row(columns, record, f"simulate.table: {path} line {reader.line_num}"))
    except csv.Error as error:  # a field above csv's limit of 128 KiB
        raise InputError(
            f"simulate.table: {path} line {reader.line_num} cannot be read ({error})"
        ) from None
    if not columns:
        raise InputError(f"simulate.table: {path} has no header, expected names of parameters")
    if not rows:
        raise InputError(f"simulate.table: {path} has no rows")
    return columns, np.array(rows)


def _check_columns(columns: list[str], path: Path) -> None:
    if len(set(columns)) < len(columns) or not set(columns) <= set(NAMES):
        shown = [column[:40] for column in columns[: len(NAMES)]]
        raise InputError(
            f"simulate.table: {path} has the columns {shown}, "
            f"expected some of {', '.join(NAMES)}, each once"
        )


def _row(columns: list[str], record: list[str], where: str) -> list[float]:
    if len(record) > len(columns):
        raise InputError(f"{where} has too many values")
    if len(record) < len(columns):
        raise InputError(f"{where} has {len(record)} values, expected {len(columns)}")
    row = []
    for column, text in zip(columns, record, strict=True):
        try:
            value = number(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{where}, column {column}: found {text[:40]!r}, expected a finite number"
            )
        row.append(value)
    return row
