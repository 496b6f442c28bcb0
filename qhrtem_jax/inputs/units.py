"""Numbers with units, as people write them: "-8 um" for a parameter in nm."""

import re
from collections.abc import Mapping
from typing import Any

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.conversion import shown
from qhrtem_jax.physics.parameters import UNITS

LENGTHS_NM = {
    "pm": 1e-3,
    "angstrom": 0.1,
    "Å": 0.1,
    "\u212b": 0.1,
    "nm": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "mm": 1e6,
}
ANGLES_MRAD = {"urad": 1e-3, "µrad": 1e-3, "μrad": 1e-3, "mrad": 1.0, "rad": 1e3}
SHARES = {"%": 0.01}
SCALES = {"nm": LENGTHS_NM, "mrad": ANGLES_MRAD, "": SHARES}
"""What a unit is in that of a parameter."""

WRITTEN = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\d\s.]\S*)\s*")


def without_units(parameters: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[InputError]]:
    """(options of parameters with texts like "-8 um" as numbers in each parameter's unit, faults:
    units that a parameter cannot have, whose options are left out)."""
    found: dict[Any, Any] = {}
    faults = []
    for name, options in parameters.items():
        found[name] = options
        if not isinstance(options, Mapping) or name not in UNITS:
            continue
        found[name] = {}
        for key, value in options.items():
            try:
                found[name][key] = _number(name, key, value)
            except InputError as fault:
                faults.append(fault)
    return found, faults


def _number(name: str, key: Any, value: Any) -> Any:
    """A text with a unit as a number; all else as it is."""
    written = WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        return value
    scales = SCALES.get(UNITS[name], {})
    if written[2] not in scales:
        expected = f"a number, or one with {', '.join(scales)}" if scales else "a number"
        raise InputError(f"parameters.{name}.{key}: found {shown(value)}, expected {expected}")
    return float(written[1]) * scales[written[2]]
