"""Values of imaging parameters that no microscope or specimen has, in what files hand over."""

import numpy as np
from jaxtyping import Float

from qhrtem_jax.inputs.parameter_space import LARGEST
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.parameters import INDEX, NAMES

CELL_OFF = 0.05
"""Share by which a region may differ from the cell that is fitted to it."""

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


def strange_region(frame: Frame, size_nm: tuple[float, float, float]) -> str | None:
    """What is strange about fitting one cell of `size_nm` (x, y, z) to `frame`; None: nothing."""
    height, width = (n * s for n, s in zip(frame.shape, frame.sampling_nm, strict=True))
    if abs(height / size_nm[1] - 1.0) < CELL_OFF and abs(width / size_nm[0] - 1.0) < CELL_OFF:
        return None
    return (
        f"the region is {width:.4g} x {height:.4g} nm ({frame.shape[1]} x {frame.shape[0]} pixels),"
        f" the cell {size_nm[0]:.4g} x {size_nm[1]:.4g} nm: is it the right crystal and zone, the "
        "right sampling, the right region?"
    )
