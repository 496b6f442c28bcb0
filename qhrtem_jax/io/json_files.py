"""JSON objects: from files that others may have written, and of plain types to be written."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import MIB, read_text
from qhrtem_jax.io.seal import check_json

LARGEST_FILE = 16 * MIB

_MOST_DIGITS = 308
"""Digits of a whole number that a float still holds."""


def read_object(path: Path, option: str) -> dict[str, Any]:
    """The object of a JSON file of at most `LARGEST_FILE`, with finite numbers and every key once;
    its checksum is verified where it carries one.

    **Raises:** `InputError` that names the option and the file.
    """
    text = read_text(path, option, LARGEST_FILE)
    try:
        content = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise InputError(f"{option}: {path} is no readable JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{option}: {path} is no readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{option}: {path} holds no JSON object")
    check_json(content, path)
    return content


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it holds {twice[:40]!r} twice")
    return content


def plain(value: Any) -> Any:
    """JSON types; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if hasattr(value, "tolist"):  # a JAX array
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
