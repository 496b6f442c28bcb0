"""Tables of parameter vectors from CSV files."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.csv_files import read_numbers
from qhrtem_jax.io.files import MIB
from qhrtem_jax.physics.parameters import NAMES

LARGEST_FILE = 32 * MIB
MOST_ROWS = 100_000


def read_table(
    path: Path, option: str = "table"
) -> tuple[list[str], Float[np.ndarray, "rows columns"]]:
    """Names of the columns, and the rows' values, of a table with a header;
    `option` is named in errors.

    **Raises:** `InputError` that names the file, and the line and column of what is wrong.
    """

    def columns_of(record: list[str]) -> list[str]:
        if len(set(record)) < len(record) or not set(record) <= set(NAMES):
            shown = [column[:40] for column in record[: len(NAMES)]]
            raise InputError(
                f"{option}: {path} has the columns {shown}, "
                f"expected some of {', '.join(NAMES)}, each once"
            )
        return record

    return read_numbers(path, option, LARGEST_FILE, MOST_ROWS, columns_of)
