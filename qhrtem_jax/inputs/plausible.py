"""Values of imaging parameters that no microscope or specimen has, in what files hand over."""

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.parameter_space import LARGEST
from qhrtem_jax.physics.parameters import INDEX, NAMES

_NOT_NEGATIVE = ("absorption", "image_spread", "focus_spread", "semi_convergence")


def implausible(vector: Float[np.ndarray, " parameters"]) -> str | None:
    """What is wrong with a vector of parameters, as `found ..., expected ...`; None: nothing."""
    for name in NAMES:
        value = float(vector[INDEX[name]])
        if not abs(value) <= LARGEST[name]:  # NaN, too
            return f"found {name} {value:g}, expected at most {LARGEST[name]:g} in size"
        if name in _NOT_NEGATIVE and value < 0.0:
            return f"found a negative {name} ({value:g})"
    thickness = float(vector[INDEX["thickness"]])
    if not thickness.is_integer() or thickness < 1.0:
        return (
            f"found thickness {thickness:g}, expected a whole number of slices, "
            f"at least 1 and at most {LARGEST['thickness']:g}"
        )
    return None
