"""What a result is worth, in words."""

import dataclasses

from qhrtem_jax.inputs.advice import by_consequence
from qhrtem_jax.reporting.result import Fit, FitResult, Result, Verdict

GOOD_NCC, POOR_NCC = 0.95, 0.8
"""Images of the right model are at least so much alike; below the second they are of another."""

NOISE_ALONE, EXPLAINED = 1.3, 3.0
"""Reduced chi-square below which nothing but noise makes images differ, however little alike they
are, and up to which a model explains an image."""


def verdict_of(fit: Fit, warnings: tuple[str, ...]) -> Verdict:
    """Of a fit, and of what is said of it."""
    alike = f"NCC {100 * fit.ncc:.1f} %"
    explained = fit.chi2_reduced is not None and fit.chi2_reduced < NOISE_ALONE
    if fit.ncc < POOR_NCC and not explained:
        return Verdict(
            "wrong model",
            f"{alike}: the simulation is not like the image",
            "compare the crystal and its zone, the sampling, the region and the vacuum with the "
            "image",
        )
    basin = [w for w in warnings if "basin may be wrong" in w]
    if basin:
        return Verdict("doubtful", basin[0], "other seeds, or bounds around what is known")
    if fit.ncc < GOOD_NCC and not explained:
        return Verdict(
            "doubtful",
            f"{alike}, expected {100 * GOOD_NCC:g} % and more of the right model",
            "compare the region and the MTF with the image, free what the model holds fixed",
        )
    if fit.chi2_reduced is not None and fit.chi2_reduced > EXPLAINED:
        return Verdict(
            "doubtful",
            f"{alike}, but the misfit is {fit.chi2_reduced:.1f} times what the noise explains",
            "what the model lacks: column positions, numbers of atoms, what lies on the crystal",
        )
    known = "" if fit.chi2_reduced is None else f", reduced chi-square {fit.chi2_reduced:.2f}"
    return Verdict("good", f"{alike}{known}", None)


def said(verdict: Verdict) -> str:
    """As one line."""
    todo = "" if verdict.try_next is None else f"; look at: {verdict.try_next}"
    return f"{verdict.word}: {verdict.why}{todo}"


def with_verdict(result: Result) -> Result:
    """A result with its warnings in order, and the verdict of its fit, where it has one."""
    result = dataclasses.replace(result, warnings=by_consequence(result.warnings))
    if not isinstance(result, FitResult):
        return result
    return dataclasses.replace(result, verdict=verdict_of(result.fit, result.warnings))
