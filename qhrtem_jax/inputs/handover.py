"""What earlier runs found and hand over: imaging parameters, counted regions."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.parameter_space import LARGEST, default_values
from qhrtem_jax.inputs.plausible import implausible
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.json_files import read_object
from qhrtem_jax.io.run_folder import MANIFEST, RESULT, RunFolder
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, CONVENTIONS, convention_factors
from qhrtem_jax.physics.parameters import INDEX, NAMES

HANDED_OVER = ("imaging.result", "stitch.result", "data.prepared")

_COUNTED_ARRAYS = ("points", "relaxed_points")


def read_result(path: Path, option: str) -> dict[str, Any]:
    """The content of a run folder's result, or of a JSON file.

    **Raises:** `InputError` that names the option and the file.
    """
    try:
        is_folder = path.is_dir()
        if is_folder and not (path / RESULT).exists():
            raise InputError(f"{option}: no {RESULT} in {path}")
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be opened ({error.strerror})") from None
    if is_folder and (path / MANIFEST).is_file():
        return RunFolder(path).read_result()
    return read_object(path / RESULT if is_folder else path, option)


@dataclasses.dataclass(frozen=True)
class HandedErrors:
    """What is not known of imaging parameters that are handed over: their covariance, in this run's
    convention."""

    names: tuple[str, ...]
    covariance: Float[np.ndarray, "d d"]


@dataclasses.dataclass(frozen=True)
class HandedImaging:
    """Imaging parameters that are handed over; `errors`: None where the result has none."""

    vector: Float[np.ndarray, " parameters"]
    errors: HandedErrors | None


def handed_imaging(settings: Settings) -> HandedImaging | None:
    """The imaging parameters that `imaging.result` hands over; None where none are.

    **Raises:** `InputError` for a result that cannot be used.
    """
    path = settings.imaging.result
    if path is None:
        return None
    content = read_result(Path(path), "imaging.result")
    vector = imaging_vector(settings, content, path)
    return HandedImaging(vector, _errors(settings, content, path))


def _errors(settings: Settings, content: dict[str, Any], source: str) -> HandedErrors | None:
    """The covariance in a result, in this run's convention."""
    known = _covariance(content, source)
    if known is None:
        return None
    factors = _factors(settings, content, source)
    if handed_values(content, source).get("drift_x", 0.0) < 0.0:  # turned round with its value
        factors |= {"drift_x": -1.0, "drift_y": -1.0}
    scale = np.array([factors.get(name, 1.0) for name in known.names])
    return HandedErrors(known.names, known.covariance * np.outer(scale, scale))


def _covariance(content: dict[str, Any], source: str) -> HandedErrors | None:
    """The covariance in a result, as written."""
    table = content.get("covariance")
    if table is None:
        return None
    try:
        names, values = tuple(table["names"]), np.array(table["values"], dtype=float)
    except (TypeError, KeyError, ValueError):
        names, values = (), np.zeros((1, 1))
    fine = set(names) <= set(NAMES) and values.shape == (len(names), len(names))
    if not (fine and np.all(np.isfinite(values)) and np.allclose(values, values.T)):
        raise InputError(
            f"imaging.result: {source}: covariance holds no finite, symmetric matrix of its "
            "parameters"
        )
    return HandedErrors(names, values)


def _factors(settings: Settings, content: dict[str, Any], source: str) -> dict[str, float]:
    """Factor to each aberration from a result's convention to this run's."""
    ours = settings.microscope.aberration_convention
    written = _convention(content, source) or ours
    to_haider = dict(zip(ABERRATION_NAMES, convention_factors(written), strict=True))
    to_ours = dict(zip(ABERRATION_NAMES, convention_factors(ours), strict=True))
    return {name: factor / to_ours[name] for name, factor in to_haider.items()}


def imaging_vector(
    settings: Settings, content: dict[str, Any], source: str
) -> Float[np.ndarray, " parameters"]:
    """The vector of `parameters` in a result, in this run's convention.

    Names that the result lacks take the configuration's values. A result that says in which
    convention it is written is converted; one that does not is taken as written in this run's.

    **Raises:** `InputError` for a result without parameters, and for values that cannot be.
    """
    vector, factors = default_values(settings), _factors(settings, content, source)
    for name, value in handed_values(content, source).items():
        vector[INDEX[name]] = value * factors.get(name, 1.0)
    drift = slice(INDEX["drift_x"], INDEX["drift_y"] + 1)
    if vector[drift][0] < 0.0:  # the opposite drift gives the same image, within the bounds
        vector[drift] *= -1.0
    wrong = implausible(vector)
    if wrong is not None:
        raise InputError(f"imaging.result: {source}: {wrong}")
    return vector


def handed_values(content: dict[str, Any], source: str) -> dict[str, float]:
    """Name and value of the `parameters` in a result, as written.

    **Raises:** `InputError` that names what is no parameter, or no number.
    """
    table = content.get("parameters")
    if not isinstance(table, dict) or not table:
        raise InputError(f"imaging.result: {source} has no `parameters`")
    values = {}
    for name, entry in table.items():
        if name not in INDEX:
            raise InputError(
                f"imaging.result: {source} has the unknown parameter {name[:40]!r}, "
                f"expected some of {', '.join(NAMES)}"
            )
        value = entry.get("value") if isinstance(entry, dict) else entry
        # a whole number of any length compares with a float, but need not convert to one
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not abs(value) <= LARGEST[name]  # NaN, too
        ):
            raise InputError(
                f"imaging.result: {source}: {name} is {str(value)[:40]}, expected a number "
                f"within +-{LARGEST[name]:g}"
            )
        values[name] = float(value)
    return values


def _convention(content: dict[str, Any], source: str) -> str | None:
    """The convention that a result says it is written in."""
    conventions = content.get("conventions") or {}
    if not isinstance(conventions, dict):
        raise InputError(
            f"imaging.result: {source}: conventions is {str(conventions)[:40]!r}, "
            'expected {"aberrations": NAME}'
        )
    written = conventions.get("aberrations")
    if written is not None and written not in tuple(CONVENTIONS):
        raise InputError(
            f"imaging.result: {source}: conventions.aberrations is {str(written)[:40]!r}, "
            f"expected one of {', '.join(CONVENTIONS)}"
        )
    return written


def content_digest(path: Path, option: str) -> str:
    """SHA-256 of what is used of a result that is handed over: the same for a result that was only
    found again, by another version or in another time.

    **Raises:** `InputError` that names the option and the file.
    """
    content = read_result(path, option)
    if option == "stitch.result" and not path.is_dir():
        raise InputError(f"{option}: {path} is a file, expected the folder of a reconstruct run")
    if option == "imaging.result":
        used: Any = [handed_values(content, str(path)), _convention(content, str(path))]
        known = _covariance(content, str(path))
        used += [] if known is None else [known.names, known.covariance.tolist()]
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()
    if option == "data.prepared":  # its image is a file of its own
        used = [content.get(name) for name in ("lattice", "origin", "prepared", "rois")]
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()
    used = {name: content.get(name) for name in ("rois", "parameters", "noise")}
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    arrays = RunFolder(path).read_arrays()
    for name in _COUNTED_ARRAYS:
        if name not in arrays:
            raise InputError(f"{option}: {path}/arrays.npz lacks {name}")
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
