"""BoTorch's posterior and qUCB at given hyperparameters: reference numbers for the tests.

    python -m benchmarks.references.botorch_qucb --out tests/bayesopt/data/botorch_qucb.json

Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import botorch
import gpytorch
import numpy as np
import torch
from botorch.acquisition import qUpperConfidenceBound
from botorch.models import SingleTaskGP
from botorch.posteriors import Posterior
from botorch.sampling import MCSampler
from gpytorch.kernels import MaternKernel, ScaleKernel
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]


class PosteriorAndQucb(NamedTuple):
    """Posterior at ``q`` points, free of observation noise, and qUCB of their batch."""

    mean: FloatArray
    covariance: FloatArray
    qucb: float


class _GivenBaseSamples(MCSampler):
    """Sampler that turns given ``s x q`` standard normal numbers into samples."""

    def __init__(self, base_samples: Tensor) -> None:
        super().__init__(sample_shape=base_samples.shape[:1])
        self.base_samples = base_samples

    def forward(self, posterior: Posterior) -> Tensor:
        base = self.base_samples.reshape(self.sample_shape + posterior.base_sample_shape)
        return posterior.rsample_from_base_samples(self.sample_shape, base)


def posterior_and_qucb(
    x_train: ArrayLike,
    y_train: ArrayLike,
    noise: float | ArrayLike,
    lengthscale: ArrayLike,
    outputscale: float,
    mean: float,
    x_test: ArrayLike,
    base_samples: ArrayLike,
    beta: float,
) -> PosteriorAndQucb:
    """Return posterior and qUCB at given hyperparameters: a reference for tests.

    Targets are taken as they are, without standardisation, and are maximised.
    BoTorch's samples are ``mu + L z`` with the lower Cholesky factor ``L`` of the
    posterior covariance, and its qUCB, for ``m`` the mean over *samples*, is::

        qucb = mean over samples of max over points of m + sqrt(beta pi / 2) |y - m|

    An implementation that puts the exact ``mu`` for ``m`` differs in general, and
    agrees if each column of ``base_samples`` has zero mean (e.g. antithetic pairs).

    Args:
        x_train: ``n x d`` training points.
        y_train: ``n`` training targets.
        noise: noise variance, a number or ``n`` of them. GPyTorch raises values
            below 1e-6 to it.
        lengthscale: ``d`` lengthscales of the Matern-5/2 kernel (or one for all).
        outputscale: variance of the process.
        mean: its constant mean.
        x_test: ``q x d`` points.
        base_samples: ``s x q`` standard normal numbers.
        beta: weight of the covariance.
    """
    x = torch.tensor(np.asarray(x_train, dtype=np.float64))
    y = torch.tensor(np.asarray(y_train, dtype=np.float64)).reshape(-1, 1)
    points = torch.tensor(np.asarray(x_test, dtype=np.float64))
    base = torch.tensor(np.asarray(base_samples, dtype=np.float64))
    if x.ndim != 2 or len(y) != len(x):
        raise ValueError(f"x_train {tuple(x.shape)} and y_train {tuple(y.shape)} do not match")
    if points.ndim != 2 or points.shape[1] != x.shape[1]:
        raise ValueError(f"x_test must be q x {x.shape[1]}, not {tuple(points.shape)}")
    if base.ndim != 2 or base.shape[1] != len(points):
        raise ValueError(f"base_samples must be s x {len(points)}, not {tuple(base.shape)}")
    dim = x.shape[1]
    variances = np.broadcast_to(np.asarray(noise, dtype=np.float64), (len(y),)).copy()
    lengthscales = np.broadcast_to(np.asarray(lengthscale, dtype=np.float64), (dim,)).copy()

    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=dim)).to(torch.float64)
    kernel.base_kernel.lengthscale = torch.from_numpy(lengthscales)
    kernel.outputscale = torch.tensor(outputscale, dtype=torch.float64)
    with warnings.catch_warnings():  # targets need not be standardised here
        warnings.simplefilter("ignore")
        variance = torch.from_numpy(variances).unsqueeze(-1)
        model = SingleTaskGP(x, y, variance, covar_module=kernel, outcome_transform=None)
    model.mean_module.constant.data.fill_(mean)
    model.eval()
    with torch.no_grad(), gpytorch.settings.max_cholesky_size(math.inf):
        posterior = model.posterior(points)
        acquisition = qUpperConfidenceBound(model, beta=beta, sampler=_GivenBaseSamples(base))
        return PosteriorAndQucb(
            mean=posterior.mean.squeeze(-1).numpy(),
            covariance=posterior.distribution.covariance_matrix.numpy(),
            qucb=acquisition(points).item(),
        )


def reference(seed: int = 7, d: int = 5, n: int = 30, q: int = 4, pairs: int = 32) -> dict:
    """A random case: inputs, and what BoTorch makes of them."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(pairs, q))
    case = {
        "x_train": rng.uniform(size=(n, d)),
        "y_train": rng.normal(size=n),
        "noise": 0.03,
        "lengthscale": rng.uniform(0.3, 1.5, size=d),
        "outputscale": 1.7,
        "mean": 0.2,
        "x_test": rng.uniform(size=(q, d)),
        # antithetic: BoTorch centres on the mean of the samples, which is then the exact mean
        "base_samples": np.concatenate([half, -half]),
        "beta": 0.25,
    }
    found = posterior_and_qucb(**case)
    result = {
        **case,
        "posterior_mean": found.mean,
        "posterior_covariance": found.covariance,
        "qucb": found.qucb,
    }
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in result.items()}
    return {"botorch": botorch.__version__, "seed": seed, **plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(reference(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
