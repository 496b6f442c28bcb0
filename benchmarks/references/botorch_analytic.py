"""BoTorch's posterior, expected improvement, probability of improvement and upper confidence bound under each kernel:
reference numbers for the tests.

    python -m benchmarks.references.botorch_analytic --out tests/bayesopt/data/botorch_analytic.json

Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path

import botorch
import gpytorch
import numpy as np
import torch
from botorch.acquisition import ExpectedImprovement, ProbabilityOfImprovement, UpperConfidenceBound
from botorch.models import SingleTaskGP
from gpytorch.kernels import MaternKernel, RBFKernel, RQKernel, ScaleKernel

LENGTHS, OUTPUTSCALE, MEAN, NOISE, MIXTURE = (0.3, 0.5), 1.4, 0.1, 0.02, 0.7
BETA = 2.5


def reference(seed: int = 3, n: int = 24, m: int = 40) -> dict:
    """A random case in two dimensions, and what BoTorch makes of it."""
    rng = np.random.default_rng(seed)
    x, y, points = rng.uniform(size=(n, 2)), rng.normal(size=n), rng.uniform(size=(m, 2))
    found = {}
    for name, kernel in (
        ("matern52", MaternKernel(nu=2.5, ard_num_dims=2)),
        ("rbf", RBFKernel(ard_num_dims=2)),
        ("rational_quadratic", RQKernel(ard_num_dims=2)),
    ):
        kernel.lengthscale = torch.tensor(LENGTHS, dtype=torch.float64)
        if name == "rational_quadratic":
            kernel.alpha = torch.tensor(MIXTURE, dtype=torch.float64)
        scaled = ScaleKernel(kernel).to(torch.float64)
        scaled.outputscale = torch.tensor(OUTPUTSCALE, dtype=torch.float64)
        with warnings.catch_warnings():  # targets need not be standardised here
            warnings.simplefilter("ignore")
            model = SingleTaskGP(
                torch.tensor(x),
                torch.tensor(y).reshape(-1, 1),
                torch.full((n, 1), NOISE, dtype=torch.float64),
                covar_module=scaled,
                outcome_transform=None,
            )
        model.mean_module.constant.data.fill_(MEAN)
        model.eval()
        with torch.no_grad(), gpytorch.settings.max_cholesky_size(math.inf):
            each = torch.tensor(points).unsqueeze(1)
            posterior = model.posterior(torch.tensor(points))
            best = float(model.posterior(torch.tensor(x)).mean.max())
            found[name] = {
                "mean": posterior.mean.squeeze(-1).tolist(),
                "variance": posterior.variance.squeeze(-1).tolist(),
                "best": best,
                "ei": ExpectedImprovement(model, best_f=best)(each).tolist(),
                "pi": ProbabilityOfImprovement(model, best_f=best)(each).tolist(),
                "ucb": UpperConfidenceBound(model, beta=BETA)(each).tolist(),
            }
    return {
        "botorch": botorch.__version__,
        "seed": seed,
        "x": x.tolist(),
        "y": y.tolist(),
        "points": points.tolist(),
        "lengths": LENGTHS,
        "outputscale": OUTPUTSCALE,
        "mean": MEAN,
        "noise": NOISE,
        "mixture": MIXTURE,
        "beta": BETA,
        "kernels": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(reference(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
