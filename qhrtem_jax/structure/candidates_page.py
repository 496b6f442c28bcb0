"""The page of a comparison of candidates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page, Table
from qhrtem_jax.structure.candidates import FittedCandidate, common_noise
from qhrtem_jax.structure.result import Candidate

RANGE_SIGMAS = 5.0


def page_of(candidates: Sequence[Candidate], fitted: Sequence[FittedCandidate]) -> Page:
    """Probabilities and what they rest on."""
    misses = np.stack([one.arrays["difference"].astype(float) for one in fitted])
    misses /= np.sqrt(common_noise(fitted).variance)
    sampling = fitted[0].result["settings"]["data"]["sampling_nm"]
    sampling = tuple(sampling) if isinstance(sampling, list) else (sampling, sampling)
    best = max(candidates, key=lambda c: c.probability)
    head = ["candidate", "probability", "log evidence", "chi-square of the image", "of priors"]
    head += [
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
                lambda path: draw(path, candidates, misses, sampling),
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


def draw(
    path: Path,
    candidates: Sequence[Candidate],
    misses: Float[np.ndarray, "candidates rows cols"],
    sampling_nm: tuple[float, float],
) -> None:
    """Residuals of all candidates on one scale."""
    columns = min(4, len(misses))
    rows = -(-len(misses) // columns)
    height, width = (n * s for n, s in zip(misses.shape[1:], sampling_nm, strict=True))
    size = (2.8 * columns + 0.8, 2.8 * rows * height / width + 0.5 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, candidate, missed in zip(axes, candidates, misses, strict=False):
        drawn = axis.imshow(
            missed,
            cmap="RdBu_r",
            vmin=-RANGE_SIGMAS,
            vmax=RANGE_SIGMAS,
            extent=(0.0, width, height, 0.0),
        )
        axis.set_title(f"{candidate.file}: p = {candidate.probability:.3f}", fontsize=8)
    figure.colorbar(drawn, ax=axes.tolist(), label="simulation - experiment (sigma)", shrink=0.8)
    figures.save(figure, path)
