"""The page of a comparison of candidates."""

from collections.abc import Sequence

import numpy as np

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page, Table
from qhrtem_jax.structure.candidates import FittedCandidate, common_noise
from qhrtem_jax.structure.result import Candidate

RANGE_SIGMAS = 5.0


def page_of(
    candidates: Sequence[Candidate],
    fitted: Sequence[FittedCandidate],
    sampling_nm: tuple[float, float],
) -> Page:
    """Probabilities and what they rest on."""
    misses = np.stack([one.arrays["difference"].astype(float) for one in fitted])
    misses /= np.sqrt(common_noise(fitted).variance)
    best = max(candidates, key=lambda c: c.probability)
    head = [
        "candidate",
        "probability",
        "log evidence",
        "chi-square of the image",
        "of priors",
        "log volume",
        "columns within (pm)",
        "MSE",
        "slices",
        "largest shift (pm)",
        "image differs by (sigma)",
    ]
    rows = [
        [
            c.file,
            f"{c.probability:.4f}",
            f"{c.log_evidence:.1f}",
            f"{c.chi2_image:.1f}",
            f"{c.chi2_priors:.1f}",
            f"{c.log_volume:.1f}",
            f"{c.position_std_pm:.1f}",
            f"{c.mse:.6f}",
            f"{c.thickness}",
            f"{c.largest_shift_pm:.1f}",
            f"{c.image_sigmas:.2f}",
        ]
        for c in candidates
    ]
    said = f"{best.file} is the most probable: {best.probability:.4f}"
    return Page(
        "Which structure",
        f"{said}, of {len(candidates)} that were alike probable before.",
        (
            Drawing(
                "candidates",
                "What each candidate misses of the image, in standard deviations of the noise",
                lambda path: figures.montage(
                    path,
                    misses,
                    sampling_nm,
                    [f"{c.file}: p = {c.probability:.3f}" for c in candidates],
                    label="simulation - experiment (sigma)",
                    cmap="RdBu_r",
                    limits=(-RANGE_SIGMAS, RANGE_SIGMAS),
                ),
            ),
        ),
        tables=(Table("Candidates", head, rows),),
        links=tuple(
            (f"{one.file}: {stage}", f"{one.folder}/{page}")
            for one in fitted
            for stage, page in (
                ("structure", "report.html"),
                ("imaging", "imaging/report.html"),
            )
        ),
        said=(said,),
    )
