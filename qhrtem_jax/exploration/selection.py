"""Which of several maps shows what is looked for."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter

from qhrtem_jax.exploration.windows import standardised

Map = Float[np.ndarray, "rows cols"]

FAR = 4.0
"""Standard deviations beyond which a place is no more anomalous."""


HIGH = 0.9
"""Quantile of a reference region that a map is scaled by."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A map that is large where what is looked for is: 0 at the median, 1 at its largest (with a
    reference: 0 at the median outside, 1 high up inside); `number` of the component it is made of,
    and `why` this one."""

    map: Map
    number: int
    why: str


def anomaly(found: Map) -> float:
    """How anomalous a map is: its skewness, a small part being far from all else, times how alike
    neighbours are (Moran's I), a part that holds together; signed as the skewness is.

    Single places count little: of means over three by three, `FAR` is as far as they get.
    """
    z = np.clip(standardised(found), -FAR, FAR)
    pairs = [z[1:] * z[:-1], z[:, 1:] * z[:, :-1]]
    alike = np.mean([p.mean() for p in pairs if p.size]) / max(float(z.var()), 1e-12)
    smooth = standardised(uniform_filter(found, 3, mode="nearest"))
    return float(np.mean(np.clip(smooth, -FAR, FAR) ** 3) * max(alike, 0.0))


def most_anomalous(maps: Float[np.ndarray, "n rows cols"]) -> Chosen:
    """The most anomalous map, turned so that what is rare is large."""
    scores = [anomaly(found) for found in maps]
    k = int(np.argmax(np.abs(scores)))
    sign = -1.0 if scores[k] < 0.0 else 1.0
    return Chosen(_scaled(sign * maps[k]), k, f"the most anomalous one ({abs(scores[k]):.2f})")


def by_reference(
    maps: Float[np.ndarray, "n rows cols"], inside: Bool[np.ndarray, "rows cols"]
) -> Chosen:
    """The map that tells a reference region best from the rest, turned to be large there."""
    apart = []
    for found in maps:
        z = standardised(found)
        apart.append(float(z[inside].mean() - z[~inside].mean()))
    k = int(np.argmax(np.abs(apart)))
    sign = -1.0 if apart[k] < 0.0 else 1.0
    why = f"tells the reference best from the rest ({abs(apart[k]):.2f} standard deviations)"
    turned = sign * maps[k]
    low, high = float(np.median(turned[~inside])), float(np.quantile(turned[inside], HIGH))
    return Chosen((turned - low) / max(high - low, 1e-12), k, why)


def by_number(maps: Float[np.ndarray, "n rows cols"], number: int) -> Chosen:
    """A map by its number, turned so that what is rare is large."""
    sign = -1.0 if anomaly(maps[number]) < 0.0 else 1.0
    return Chosen(_scaled(sign * maps[number]), number, "as asked for")


def _scaled(found: Map) -> Map:
    low, high = float(np.median(found)), float(found.max())
    return (found - low) / (high - low) if high > low else np.zeros_like(found)
