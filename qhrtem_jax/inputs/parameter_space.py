"""Which parameters are searched, within which bounds, with which priors."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from qhrtem_jax.bayesopt.space import Space, Variable
from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, convention_factors
from qhrtem_jax.physics.parameters import INDEX, NAMES, UNITS, default_vector
from qhrtem_jax.refine.coordinates import Coordinates

_SEARCHED = {
    "absorption": (0.0, 0.05),
    "tilt_x": (-10.0, 10.0),
    "tilt_y": (-10.0, 10.0),
    "image_spread": (0.010, 0.024),
    "focus_spread": (2.0, 6.0),
    "semi_convergence": (0.1, 0.5),
    "A0_x": (-0.05, 0.05),
    "A0_y": (-0.05, 0.05),
    "C1": (0.0, 10.0),
    "A1_x": (-5.0, 5.0),
    "A1_y": (-5.0, 5.0),
    "A2_x": (-150.0, 150.0),
    "A2_y": (-150.0, 150.0),
    "B2_x": (-50.0, 50.0),
    "B2_y": (-50.0, 50.0),
    "C3": (-15e3, 0.0),
    "S3_x": (-2.5e3, 2.5e3),
    "S3_y": (-2.5e3, 2.5e3),
    "A3_x": (-10e3, 10e3),
    "A3_y": (-10e3, 10e3),
    "C5": (1e6, 10e6),
    "thickness": (4.0, 50.0),
}
"""Parameters that are free by default, with the wide bounds of the paper's code, in Haider's
convention (in Dr. Probe's, B2 is within +-150 nm and S3 within +-10 um)."""

_FIXED = {"drift_x": (0.0, 0.1), "drift_y": (-0.1, 0.1)} | {
    name: (-scale, scale)
    for stem, scale in (
        ("B4", 2e4),
        ("D4", 2e4),
        ("A4", 1e5),
        ("S5", 1e6),
        ("R5", 1e6),
        ("A5", 5e6),
    )
    for name in (f"{stem}_x", f"{stem}_y")
}
"""Drift and fifth-order terms are fixed at zero unless freed; these bounds then hold. A drift and
its opposite give the same image."""

SHIFT = ("A0_x", "A0_y")

LARGEST = {
    "absorption": 1.0,
    "tilt_x": 500.0,
    "tilt_y": 500.0,
    "image_spread": 10.0,
    "drift_x": 10.0,
    "drift_y": 10.0,
    "focus_spread": 1e4,
    "semi_convergence": 100.0,
    "thickness": 10_000.0,
} | {name: 1e4 * max(map(abs, (_SEARCHED | _FIXED)[name])) for name in ABERRATION_NAMES}
"""Largest magnitude of a parameter, far beyond any microscope: numbers above are typing errors, and
single precision does not hold what follows from them."""

NARROWEST = 1e-6
"""Narrowest bounds, relative to their magnitude, and prior, relative to the bounds, that single
precision resolves."""


@dataclasses.dataclass(frozen=True)
class ParameterSpace:
    """The searched `space` within the vector of all parameters, in the microscope's convention.

    `base` holds the values of what is fixed, and the starting values of what is free. `thickness`
    and, where it is profiled, the shift are not in `space`; their bounds are kept beside it.
    """

    space: Space
    base: Float[np.ndarray, " parameters"]
    given: frozenset[str]
    thickness: Variable
    thickness_free: bool
    shift: tuple[Variable, Variable]
    shift_free: bool
    profiled: tuple[str, ...]

    @property
    def indices(self) -> Int[np.ndarray, " d"]:
        return np.array([INDEX[name] for name in self.space.names], dtype=int)

    def coordinates(self, names: tuple[str, ...], prior_scale: float) -> Coordinates[np.ndarray]:
        """Some parameters of `space`; `prior_scale`: factor to the priors' deviations, so that they
        weigh against residuals that are no chi-square."""
        space = self.space
        kept = [space.names.index(name) for name in names]
        return Coordinates(
            tuple(INDEX[name] for name in names),
            space.low[kept],
            space.width[kept],
            space.prior_mean[kept],
            space.prior_std[kept] * prior_scale,
        )

    @property
    def thickness_range(self) -> tuple[int, int]:
        return round(self.thickness.low), round(self.thickness.high)

    @property
    def has_priors(self) -> bool:
        variables = (*self.fitted.space.variables, self.thickness)
        return any(v.prior_std is not None for v in variables)

    @property
    def fitted(self) -> "ParameterSpace":
        """The space of least squares: continuous parameters, the shift among them."""
        if not self.shift_free or SHIFT[0] in self.space.names:
            return self
        return dataclasses.replace(self, space=Space((*self.space.variables, *self.shift)))


def default_bounds(name: str) -> tuple[float, float]:
    """(low, high) of a parameter where the settings give none, in Haider's convention."""
    known = _SEARCHED | _FIXED
    if name not in known:
        raise LookupError(
            f"the parameter {name} of physics.parameters has no bounds here: enter it into "
            "_SEARCHED (free by default) or _FIXED, and into LARGEST"
        )
    return known[name]


def default_values(settings: Settings) -> Float[np.ndarray, " parameters"]:
    """Vector of `parameters.NAME.value` where given, else the defaults, in the run's convention."""
    base = default_vector()
    for name in NAMES:
        value = settings.parameter(name).value
        if value is not None:
            check_magnitude(name, value, f"parameters.{name}.value")
            base[INDEX[name]] = value
    return base


def check_magnitude(name: str, value: float, where: str) -> None:
    """Refuse a value of a parameter that is beyond any microscope.

    **Raises:** `InputError` that names `where`.
    """
    if not abs(value) <= LARGEST[name]:
        raise InputError(
            f"{where}: found {value:g}, expected a magnitude of at most {LARGEST[name]:g}"
            f"{' ' if UNITS[name] else ''}{UNITS[name]}"
        )


def parameter_space(settings: Settings, *, may_be_empty: bool = False) -> ParameterSpace:
    """The parameter space of a run; `may_be_empty`: all may be fixed.

    **Raises:** `InputError` for bounds that cannot be, or a value or prior outside of them.
    """
    factors = dict(
        zip(
            ABERRATION_NAMES,
            convention_factors(settings.microscope.aberration_convention),
            strict=True,
        )
    )
    base = default_values(settings)
    variables, free_names, given = {}, [], set()
    for name in NAMES:
        known = settings.parameter(name)
        searched = name in _SEARCHED
        low, high = default_bounds(name)
        edges = sorted((low / factors.get(name, 1.0), high / factors.get(name, 1.0)))
        low = edges[0] if known.low is None else known.low
        high = edges[1] if known.high is None else known.high
        if (known.prior_mean is None) != (known.prior_std is None):
            raise InputError(f"parameters.{name}: prior_mean and prior_std belong together")
        for what in ("low", "high", "prior_mean"):
            value = getattr(known, what)
            if value is not None:
                check_magnitude(name, value, f"parameters.{name}.{what}")
        with named(f"parameters.{name}"):
            variable = Variable(
                name,
                low,
                high,
                UNITS[name],
                known.prior_mean,
                known.prior_std,
                integer=name == "thickness",
            )
        _check_widths(variable)
        free = searched if known.free is None else known.free
        if free:
            free_names.append(name)
            for what, value in (("value", known.value), ("prior_mean", known.prior_mean)):
                if value is not None and not low <= value <= high:
                    raise InputError(
                        f"parameters.{name}.{what}: found {value}, expected within {low}..{high}"
                    )
            if known.value is not None:
                given.add(name)
            elif known.prior_mean is not None:
                base[INDEX[name]] = known.prior_mean
            elif not low <= base[INDEX[name]] <= high:
                base[INDEX[name]] = 0.5 * (low + high)
        variables[name] = variable
    _check_physical(settings, base, variables, free_names)
    shift_free = all(name in free_names for name in SHIFT)
    leave_out, profiled = set(), []
    if "thickness" in settings.optimizer.profile or "thickness" not in free_names:
        leave_out.add("thickness")
        profiled.append("thickness")  # a fixed one is a range of one
    # A shift with a prior is searched: the closed form knows the image alone.
    known_shift = any(variables[name].prior_std is not None for name in SHIFT)
    if "shift" in settings.optimizer.profile and shift_free and not known_shift:
        leave_out |= set(SHIFT)
        profiled.append("shift")
    searched = tuple(variables[n] for n in free_names if n not in leave_out)
    if not searched and not may_be_empty:
        raise InputError(
            "parameters: nothing is left to search: free some, or, where only the thickness or the "
            "shift is free, set optimizer.profile=[]"
        )
    thickness = variables["thickness"]
    if "thickness" not in free_names:
        value = base[INDEX["thickness"]]
        thickness = dataclasses.replace(thickness, low=value, high=value + 0.25)
    elif "thickness" not in leave_out:
        # A relaxed thickness runs from below the first to above the last whole number, so that
        # rounding gives each the same share.
        wide = dataclasses.replace(
            thickness, low=thickness.low - 0.499, high=thickness.high + 0.499
        )
        searched = tuple(wide if v.name == "thickness" else v for v in searched)
    return ParameterSpace(
        Space(searched),
        base,
        frozenset(given),
        thickness,
        "thickness" in free_names,
        (variables["A0_x"], variables["A0_y"]),
        shift_free,
        tuple(profiled),
    )


def _check_widths(variable: Variable) -> None:
    """Refuse bounds and priors so narrow that nothing is left to search."""
    name, width = variable.name, variable.high - variable.low
    if width < NARROWEST * max(abs(variable.low), abs(variable.high)):
        raise InputError(
            f"parameters.{name}: found bounds low={variable.low}, high={variable.high}, expected "
            "them further apart (free=false and value fix a parameter)"
        )
    std = variable.prior_std
    if std is not None and not NARROWEST <= std / width <= 1.0 / NARROWEST:
        raise InputError(
            f"parameters.{name}.prior_std: found {std:g}, expected {NARROWEST * width:g} to "
            f"{width / NARROWEST:g} (free=false and value fix a parameter)"
        )


def _check_physical(
    settings: Settings, base: np.ndarray, variables: dict[str, Variable], free: list[str]
) -> None:
    for name, least in (("thickness", 1.0), ("image_spread", 0.0), ("absorption", 0.0)):
        low = variables[name].low if name in free else base[INDEX[name]]
        if low < least:
            raise InputError(f"parameters.{name}: found {low}, expected at least {least:g}")
    for name in ("focus_spread", "semi_convergence"):
        low = variables[name].low if name in free else base[INDEX[name]]
        if low < 0.0:
            raise InputError(f"parameters.{name}: found {low}, expected at least 0")
    thickness = settings.parameter("thickness")
    for what in ("value", "low", "high"):
        number = getattr(thickness, what)
        if number is not None and not float(number).is_integer():
            raise InputError(
                f"parameters.thickness.{what}: found {number}, expected a whole number of slices"
            )
