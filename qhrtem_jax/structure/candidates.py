"""Which of several crystals an image is of, and how surely."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from qhrtem_jax.io.run_folder import FINGERPRINT
from qhrtem_jax.io.seal import CHECKSUM, Arrays
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.refine.evidence import LinearFit, OverPlaces, over_places
from qhrtem_jax.reporting.column_tables import PM
from qhrtem_jax.reporting.result import as_json
from qhrtem_jax.structure.result import Candidate

SURE = 0.95
"""A candidate that is less probable is not the only one."""

LIKELY = 0.05
"""Others that are spoken of then."""

NOT_ITS_OWN = (CHECKSUM, FINGERPRINT, "files")
"""Keys of a result that are those of its folder."""

_PARTS = {"residual": "difference", "unit": "unit", "jacobian": "jacobian"}
_PRIORS = ("prior_mean", "prior_std")
_PLACES = "places"


@dataclasses.dataclass(frozen=True)
class FittedCandidate:
    """A crystal's `file`, the `folder` of its fits, what stage `structure` says of it (content of
    `result.json`, arrays), and what stage `imaging` does (content)."""

    file: str
    folder: str
    result: dict[str, Any]
    arrays: Arrays
    imaging: dict[str, Any]

    @property
    def fit(self) -> LinearFit:
        """What is known around its best point."""
        known = {name: self.arrays[array] for name, array in _PARTS.items()}
        known |= {name: self.arrays[name] for name in _PRIORS}
        arrays = {name: np.asarray(array, float) for name, array in known.items()}
        return LinearFit(**arrays, places=self.arrays[_PLACES].astype(bool))


def told_apart(files: Sequence[str]) -> list[str]:
    """Names of files without their folders, where these differ."""
    names = [Path(file).name for file in files]
    return names if len(set(names)) == len(names) else list(files)


def common_noise(fitted: Sequence[FittedCandidate]) -> NoiseModel:
    """What weighs the pixels for all: the noise that the best of them was fitted with, so that what
    no candidate explains decides nothing."""
    best = min(fitted, key=lambda candidate: candidate.result["fit"]["mse"])
    known = best.result["noise"]
    return NoiseModel(known["variance"], tuple(known["correlation"]), known["source"])


def probabilities(
    log_evidence: Float[np.ndarray, " candidates"],
) -> Float[np.ndarray, " candidates"]:
    """Of candidates that were alike probable before."""
    weight = np.exp(log_evidence - np.max(log_evidence))
    return weight / weight.sum()


def compared(fitted: Sequence[FittedCandidate]) -> tuple[Candidate, ...]:
    """Each candidate's probability, in the order that they were given in; each at the thickness
    that explains the image best with it."""
    noise = common_noise(fitted)
    known = [over_places(candidate.fit, noise) for candidate in fitted]
    logs = np.array([evidence.log for evidence in known])
    chances = probabilities(logs)
    best = int(np.argmax(logs))
    return tuple(
        _candidate(one, evidence, float(log - logs[best]), float(chance), fitted[best], noise)
        for one, evidence, log, chance in zip(fitted, known, logs, chances, strict=True)
    )


def _candidate(
    one: FittedCandidate,
    evidence: OverPlaces,
    log_evidence: float,
    probability: float,
    best: FittedCandidate,
    noise: NoiseModel,
) -> Candidate:
    off = one.arrays["simulation"].astype(float) - best.arrays["simulation"].astype(float)
    thickness = one.result["parameters"]["thickness"]["value"]
    held = evidence.share * one.result["settings"]["structure"]["position_std_nm"]
    shifts = [np.hypot(c["dx_pm"], c["dy_pm"]) for c in one.result["columns"]]
    return Candidate(
        one.file,
        probability,
        log_evidence,
        evidence.best.image,
        evidence.best.priors,
        evidence.best.volume,
        held * PM,
        one.result["fit"]["mse"],
        thickness,
        float(np.max(shifts)),
        float(np.sqrt(np.mean(off**2) / noise.variance)),
    )


def comparison(
    header: dict[str, Any], candidates: Sequence[Candidate], fitted: Sequence[FittedCandidate]
) -> tuple[dict[str, Any], Arrays]:
    """(content of `result.json`, arrays): those of the most probable candidate under the `header`
    of the run, with how probable each is, and what each misses."""
    best = fitted[int(np.argmax([c.probability for c in candidates]))]
    known = {k: v for k, v in best.result.items() if k not in NOT_ITS_OWN}
    costs = [cost for one in fitted for cost in (one.result["cost"], one.imaging["cost"])]
    content = known | header
    content["warnings"] = [*remarks(candidates), *known["warnings"]]
    content["candidates"] = as_json(tuple(candidates))
    content["cost"] = {k: round(sum(cost[k] for cost in costs), 3) for k in known["cost"]}
    arrays = {name: best.arrays[name] for name in ("experiment", "simulation", "difference")}
    arrays["candidates_difference"] = np.stack([one.arrays["difference"] for one in fitted])
    return content, arrays


def remarks(candidates: Sequence[Candidate]) -> list[str]:
    """What is to be said of a comparison."""
    best = max(candidates, key=lambda c: c.probability)
    if best.probability >= SURE:
        return []
    ordered = sorted(candidates, key=lambda c: -c.probability)
    others = [c for c in ordered[1:] if c.probability > LIKELY] or ordered[1:2]
    said = " and ".join(f"{c.file} ({c.probability:.2f})" for c in others)
    return [f"the image does not decide between {best.file} ({best.probability:.2f}) and {said}"]
