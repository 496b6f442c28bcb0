"""Values of imaging parameters that no microscope or specimen has, in what files hand over."""

import numpy as np

from qhrtem_jax.physics.parameters import INDEX, NAMES
from qhrtem_jax.stages.parameter_space import LARGEST

LARGEST_VALUE = max(LARGEST.values())

MOST_SLICES = 10_000

_SPREADS = ("image_spread", "focus_spread", "semi_convergence")


def implausible(vector: np.ndarray) -> str | None:
    """What is wrong with a vector of parameters, as `found ..., expected ...`; None: nothing."""
    for name in NAMES:
        value = float(vector[INDEX[name]])
        if not abs(value) <= LARGEST[name]:  # NaN, too
            return f"found {name} {value:g}, expected at most {LARGEST[name]:g} in size"
    thickness = float(vector[INDEX["thickness"]])
    if not thickness.is_integer() or not 1 <= thickness <= MOST_SLICES:
        return (
            f"found thickness {thickness:g}, expected a whole number of slices, "
            f"at least 1 and at most {MOST_SLICES}"
        )
    for name in _SPREADS:
        if vector[INDEX[name]] < 0.0:
            return f"found a negative {name} ({vector[INDEX[name]]:g})"
    absorption = float(vector[INDEX["absorption"]])
    if absorption < 0.0:
        return f"found a negative absorption ({absorption:g})"
    if absorption > 1.0:
        return f"found absorption {absorption:g}, expected 0 to 1"
    return None
