"""Imaging parameters that an earlier run found."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.run_folder import RESULT
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, convention_factors
from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.stages.parameter_space import default_values
from qhrtem_jax.stages.settings import RunSettings


def read_result(path: Path, option: str) -> dict[str, Any]:
    """The content of a run folder's result, or of a JSON file.

    **Raises:** `InputError` that names the option and the file.
    """
    file = path / RESULT if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{option}: no {RESULT} in {path}" if path.is_dir() else f"{option}: no file {path}"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{option}: {file} is no readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{option}: {file} holds no JSON object")
    return content


def imaging_vector(settings: RunSettings, content: dict[str, Any], source: str) -> np.ndarray:
    """The vector of `parameters` in a result, in this run's convention.

    Names that the result lacks take the configuration's values. A result that says in which
    convention it is written is converted; one that does not is taken as written in this run's.
    """
    table = content.get("parameters")
    if not isinstance(table, dict) or not table:
        raise InputError(f"imaging.result: {source} has no `parameters`")
    vector = default_values(settings)
    ours = settings.microscope.aberration_convention
    written = (content.get("conventions") or {}).get("aberrations", ours)
    to_haider = dict(zip(ABERRATION_NAMES, convention_factors(written), strict=True))
    to_ours = dict(zip(ABERRATION_NAMES, convention_factors(ours), strict=True))
    for name, entry in table.items():
        if name not in INDEX:
            raise InputError(
                f"imaging.result: {source} has the unknown parameter {name!r}, "
                f"expected some of {', '.join(NAMES)}"
            )
        value = entry.get("value") if isinstance(entry, dict) else entry
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"imaging.result: {source}: {name} is {value!r}, expected a number")
        vector[INDEX[name]] = value * to_haider.get(name, 1.0) / to_ours.get(name, 1.0)
    return vector
