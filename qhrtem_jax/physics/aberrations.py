r"""Wave aberrations up to fifth order, their gradient, and conventions.

Inside the library every coefficient is in nm in the convention of Uhlemann and Haider,
Ultramicroscopy 72, 109 (1998), with w = lambda (q_x + i q_y) in rad:

    W = Re{ A0 w* + C1 w w*/2 + A1 w*^2/2 + B2 w^2 w* + A2 w*^3/3 + C3 (w w*)^2/4 + S3 w^3 w*
            + A3 w*^4/4 + B4 w^3 w*^2 + D4 w^4 w* + A4 w*^5/5 + C5 (w w*)^3/6 + S5 w^4 w*^2
            + R5 w^5 w* + A5 w*^6/6 },
    chi = 2 pi W / lambda,  phase plate exp(-i chi).

C1 > 0 acts like free propagation behind the object; A0 moves the image towards larger x, y.
Dr. Probe and Krivanek (Krivanek, Dellby, Lupini, Ultramicroscopy 78, 1, 1999) write every term as
(1/m) |w|^(m-n) Re[conj(a) w^n], m the power of |w| and n the symmetry. Each real component of one
convention is a real multiple of the same component of the other, so converting a value, a bound, a
standard error or a covariance is one multiplication (`convention_factors`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.errors import InputError

ArrayLike = Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Aberration:
    """One coefficient: power m of |w|, symmetry n, and whether Haider's term is a w^n type.

    `conjugate` marks B, S, D, R: Haider writes them as a w^n |w|^(m-n), without 1/m; the others as
    a w*^n |w|^(m-n) / m.
    """

    name: str
    power: int
    symmetry: int
    conjugate: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the real components: NAME_x, NAME_y, or NAME alone where round."""
        return (self.name,) if self.symmetry == 0 else (f"{self.name}_x", f"{self.name}_y")


ABERRATIONS: tuple[Aberration, ...] = (
    Aberration("A0", 1, 1),
    Aberration("C1", 2, 0),
    Aberration("A1", 2, 2),
    Aberration("A2", 3, 3),
    Aberration("B2", 3, 1, True),
    Aberration("C3", 4, 0),
    Aberration("S3", 4, 2, True),
    Aberration("A3", 4, 4),
    Aberration("B4", 5, 1, True),
    Aberration("D4", 5, 3, True),
    Aberration("A4", 5, 5),
    Aberration("C5", 6, 0),
    Aberration("S5", 6, 2, True),
    Aberration("R5", 6, 4, True),
    Aberration("A5", 6, 6),
)

ABERRATION_NAMES: tuple[str, ...] = tuple(c for a in ABERRATIONS for c in a.components)
"""Names of the real components, in the order of every coefficient vector of the library."""

CONVENTIONS = ("haider", "drprobe", "krivanek")


def convention_factors(convention: str) -> Float[np.ndarray, " components"]:
    """Factors that turn coefficients of `convention` into Haider's.

    Dr. Probe's and Krivanek's numbers are equal (C1 = C10, A1 = C12, B2 = C21, A2 = C23, S3 = C32,
    A3 = C34, ...); B2, S3, B4, D4, S5, R5 differ from Haider's by 1/m and conjugation.

    **Raises:** `InputError` for an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"aberration convention: found {convention!r}, expected one of {CONVENTIONS}"
        )
    factors: list[float] = []
    for a in ABERRATIONS:
        if convention == "haider" or not a.conjugate:
            factors += [1.0] * len(a.components)
        else:
            factors += [1.0 / a.power, -1.0 / a.power]
    return np.array(factors)


def aberration_basis(
    w_x: Float[ArrayLike, "*shape"], w_y: Float[ArrayLike, "*shape"]
) -> Float[ArrayLike, "components *shape"]:
    """W of each real component at unit coefficient: W = sum_k coefficient_k basis_k, in nm/nm.

    Takes NumPy arrays (tables, in float64 whatever JAX's precision) or JAX arrays.
    """
    xp = jnp if isinstance(w_x, jax.Array) else np
    w = w_x + 1j * w_y
    modulus2 = w_x**2 + w_y**2
    terms = []
    for a in ABERRATIONS:
        radial = modulus2 ** ((a.power - a.symmetry) // 2) / (1.0 if a.conjugate else a.power)
        if a.symmetry == 0:
            terms.append(radial)
            continue
        angular = w**a.symmetry
        sign = -1.0 if a.conjugate else 1.0
        terms += [radial * xp.real(angular), sign * radial * xp.imag(angular)]
    return xp.stack(terms)


def aberration_gradient_basis(
    w_x: Float[np.ndarray, "*shape"], w_y: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "2 components *shape"]:
    """(dW/dw_x, dW/dw_y) of each real component at unit coefficient.

    With p = (m - n)/2: d/dw_x (|w|^2p w^n) = 2p w_x |w|^(2p-2) w^n + n |w|^2p w^(n-1), and for w_y
    the same with w_y and a factor i on the second term.
    """
    w = w_x + 1j * w_y
    modulus2 = w_x**2 + w_y**2
    rows: tuple[list, list] = ([], [])
    for a in ABERRATIONS:
        p, n = (a.power - a.symmetry) // 2, a.symmetry
        scale = 1.0 if a.conjugate else 1.0 / a.power
        sign = -1.0 if a.conjugate else 1.0
        for axis, (component, unit) in enumerate(((w_x, 1.0), (w_y, 1j))):
            value = np.zeros_like(w)
            if p > 0:
                value = value + 2 * p * component * modulus2 ** (p - 1) * w**n
            if n > 0:
                value = value + unit * n * modulus2**p * w ** (n - 1)
            value = value * scale
            rows[axis].append(value.real)
            if n > 0:
                rows[axis].append(sign * value.imag)
    return np.stack([np.stack(rows[0]), np.stack(rows[1])])
