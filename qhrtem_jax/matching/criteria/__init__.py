"""Figures of merit between a simulated and an experimental image (paper, section 1), one a file.

All take images of shape (rows, cols), vacuum-normalised, and are jit- and vmap-able.
"""

from qhrtem_jax.matching.criteria.chi_square import ChiSquare
from qhrtem_jax.matching.criteria.contrast import Contrast, contrast
from qhrtem_jax.matching.criteria.criterion import Criterion, SumOfSquares
from qhrtem_jax.matching.criteria.cross_correlation import (
    CrossCorrelation,
    ncc_map,
    normalised_cross_correlation,
)
from qhrtem_jax.matching.criteria.deviance import PoissonDeviance
from qhrtem_jax.matching.criteria.mean_square import MeanSquare, mean_squared_error
from qhrtem_jax.matching.criteria.r_factor import RFactor, r_factor
from qhrtem_jax.matching.criteria.similarity import Similarity, structural_similarity

CRITERIA: dict[str, type[Criterion]] = {
    "mse": MeanSquare,
    "chi2": ChiSquare,
    "poisson": PoissonDeviance,
    "ncc": CrossCorrelation,
    "ssim": Similarity,
    "contrast": Contrast,
    "r_factor": RFactor,
}
"""What a search can be told to make small, by the name that users give."""

__all__ = [
    "CRITERIA",
    "Criterion",
    "SumOfSquares",
    "contrast",
    "mean_squared_error",
    "ncc_map",
    "normalised_cross_correlation",
    "r_factor",
    "structural_similarity",
]
