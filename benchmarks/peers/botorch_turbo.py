"""Single trust-region Bayesian optimization in BoTorch: the reference peer.

This is the optimizer of Tang et al. (2026), section 2: TuRBO with one trust
region (Eriksson et al., NeurIPS 2019), a Gaussian process with a Matern-5/2
kernel and a prescribed observation noise, and parallel upper confidence bound
(qUCB) as acquisition function. With ``acquisition="ts"``, ``"qei"`` or
``"qlogei"`` it is BoTorch's TuRBO-1 tutorial instead, with learned noise.

Functions are minimised over the unit cube. Internally ``-f``, standardised to
zero mean and unit variance, is maximised, in float64 on the CPU. Every random
number follows from ``seed``; PyTorch's global generator is restored after each
step, and no global setting of PyTorch, GPyTorch or BoTorch is changed.

Two departures from the tutorial: the perturbation mask of Thompson sampling may
pick the last coordinate too, and a collapsed region leads to a warm restart
(section 2 of the paper: new Sobol points, all earlier ones kept, larger beta).

Needs ``botorch`` (written against 0.18.1), ``gpytorch``, ``torch``, ``numpy``.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gpytorch
import numpy as np
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    qExpectedImprovement,
    qLogExpectedImprovement,
    qUpperConfidenceBound,
)
from botorch.exceptions.warnings import NumericsWarning
from botorch.fit import fit_gpytorch_mll
from botorch.generation import MaxPosteriorSampling
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.sampling import manual_seed
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.quasirandom import SobolEngine

FloatArray = NDArray[np.float64]
Objective = Callable[[FloatArray], ArrayLike]

_ACQUISITIONS = ("qucb", "ts", "qei", "qlogei")
_HYPERPRIORS = ("turbo", "gamma")
_LEARNED_NOISE_BOUNDS = (1e-8, 1e-3)  # the tutorial's, on standardised targets


@dataclass(frozen=True)
class Options:
    """Settings of `minimise`; the defaults are the tutorial's with the paper's qUCB.

    Attributes:
        acquisition: ``"qucb"`` (the paper), ``"ts"`` (Thompson sampling), ``"qei"``
            or ``"qlogei"`` (improvement over the best observed target).
        beta: qUCB's weight of the posterior covariance in the first cycle.
        beta_factor: factor on ``beta`` at each warm restart.
        beta_max: ceiling of ``beta``.
        noise: variance of the observation noise of standardised targets;
            ``"learned"`` fits it within [1e-8, 1e-3]; None stands for 0.05 with
            qUCB and for ``"learned"`` otherwise.
        hyperpriors: ``"turbo"``: lengthscales in [0.005, 4], no priors (tutorial);
            ``"gamma"``: Gamma(3, 6) on lengthscales, Gamma(2, 0.15) on the output
            scale (BoTorch's default until 0.11).
        initial_points: Sobol points before the first step and after each restart;
            None stands for twice the dimension, rounded up to whole batches.
        num_restarts: starts of the acquisition's optimization.
        raw_samples: Sobol batches from which these starts are drawn.
        mc_samples: quasi-Monte Carlo samples of the acquisition.
        thompson_candidates: candidates of Thompson sampling; None stands for
            ``min(5000, max(2000, 200 * dim))``.
        length_init, length_min, length_max: edge of the trust region before it is
            weighted by the lengthscales; it collapses below ``length_min``.
        success_tolerance: successive successes before the region doubles.
        failure_tolerance: successive failures before it halves; None stands for
            ``ceil(max(4, dim) / batch)``.
        improvement: a batch succeeds if it improves the best value by more than
            this fraction of its magnitude.
        design_sets_reference: whether a batch is compared with the best of all
            points, as in the tutorial; otherwise with proposals of this cycle only,
            whose first batch counts as a failure, as in the paper's code.
    """

    acquisition: Literal["qucb", "ts", "qei", "qlogei"] = "qucb"
    beta: float = 0.25
    beta_factor: float = 4.0
    beta_max: float = 500.0
    noise: float | Literal["learned"] | None = None
    hyperpriors: Literal["turbo", "gamma"] = "turbo"
    initial_points: int | None = None
    num_restarts: int = 10
    raw_samples: int = 512
    mc_samples: int = 512
    thompson_candidates: int | None = None
    length_init: float = 0.8
    length_min: float = 0.5**7
    length_max: float = 1.6
    success_tolerance: int = 10
    failure_tolerance: int | None = None
    improvement: float = 1e-3
    design_sets_reference: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if isinstance(self.noise, str):
            noise_is_valid = self.noise == "learned"
        else:
            noise_is_valid = self.noise is None or self.noise > 0
        counts = (
            self.num_restarts,
            self.raw_samples,
            self.mc_samples,
            self.success_tolerance,
            1 if self.thompson_candidates is None else self.thompson_candidates,
            1 if self.failure_tolerance is None else self.failure_tolerance,
        )
        enough_points = self.initial_points is None or self.initial_points >= 2
        for valid, rule in (
            (self.acquisition in _ACQUISITIONS, f"acquisition must be one of {_ACQUISITIONS}"),
            (self.hyperpriors in _HYPERPRIORS, f"hyperpriors must be one of {_HYPERPRIORS}"),
            (noise_is_valid, "noise must be a positive variance, 'learned' or None"),
            (0 < self.beta <= self.beta_max, "beta must be positive and at most beta_max"),
            (self.beta_factor >= 1, "beta_factor must be at least 1"),
            (0 < self.length_min <= self.length_init, "length_init must be at least length_min"),
            (self.length_init <= self.length_max, "length_init must be at most length_max"),
            (self.improvement >= 0, "improvement must not be negative"),
            (min(counts) >= 1, "numbers of samples, starts and tolerances must be at least 1"),
            (enough_points, "initial_points must be at least 2: targets are standardised"),
        ):
            if not valid:
                raise ValueError(f"{rule}; got {self}")

    @property
    def noise_variance(self) -> float | None:
        """The prescribed noise variance of standardised targets; None if learned."""
        if self.noise == "learned" or (self.noise is None and self.acquisition != "qucb"):
            return None
        return 0.05 if self.noise is None else float(self.noise)


def published_options(dim: int) -> Options:
    """Settings of the code published with the paper, where they differ from its text.

    github.com/XiankangTang/BO_HRTEM, ``imaging.py`` (read at commit d61f436). The
    restart differs: there only the best point of each cycle is kept, whereas the
    paper's text, followed here, keeps all. Batches of 8, as in that file, are
    `minimise`'s to set. 16384 raw samples make a step several times slower.
    """
    return Options(
        beta_factor=2000.0,  # 0.25, then 500 from the first restart on
        beta_max=500.0,
        initial_points=4 * dim,
        raw_samples=16384,
        length_init=1.6,
        length_min=1e-5,
        length_max=100.0,
        improvement=1e-2,
        design_sets_reference=False,
    )


@dataclass
class TrustRegion:
    """Edge length of the trust region and the counters that change it.

    ``best`` is the largest value of ``-f`` so far, in units of ``f``: it must not
    depend on the standardisation, which changes at each step.
    """

    length: float
    length_min: float
    length_max: float
    success_tolerance: int
    failure_tolerance: int
    improvement: float
    best: float
    successes: int = 0
    failures: int = 0

    @classmethod
    def start(cls, options: Options, dim: int, batch: int, best: float) -> TrustRegion:
        """Return a fresh region for a new cycle."""
        failure_tolerance = options.failure_tolerance
        if failure_tolerance is None:
            failure_tolerance = math.ceil(max(4.0 / batch, dim / batch))
        return cls(
            length=options.length_init,
            length_min=options.length_min,
            length_max=options.length_max,
            success_tolerance=options.success_tolerance,
            failure_tolerance=failure_tolerance,
            improvement=options.improvement,
            best=best if options.design_sets_reference else -math.inf,
        )

    @property
    def collapsed(self) -> bool:
        """Whether the region is smaller than its minimum."""
        return self.length < self.length_min

    def update(self, batch_best: float) -> None:
        """Count one batch, whose largest ``-f`` is ``batch_best``, and resize."""
        has_reference = math.isfinite(self.best)
        if has_reference and batch_best > self.best + self.improvement * abs(self.best):
            self.successes, self.failures = self.successes + 1, 0
        else:
            self.successes, self.failures = 0, self.failures + 1
        if self.successes == self.success_tolerance:
            self.length = min(2.0 * self.length, self.length_max)
            self.successes = 0
        elif self.failures == self.failure_tolerance:
            self.length /= 2.0
            self.failures = 0
        self.best = max(self.best, batch_best)


def make_kernel(dim: int, hyperpriors: str = "turbo") -> ScaleKernel:
    """Return a scaled Matern-5/2 kernel with one lengthscale per dimension."""
    if hyperpriors == "turbo":
        base = MaternKernel(nu=2.5, ard_num_dims=dim, lengthscale_constraint=Interval(0.005, 4.0))
        return ScaleKernel(base)
    base = MaternKernel(nu=2.5, ard_num_dims=dim, lengthscale_prior=GammaPrior(3.0, 6.0))
    return ScaleKernel(base, outputscale_prior=GammaPrior(2.0, 0.15))


def fit_model(x: Tensor, y: Tensor, options: Options) -> SingleTaskGP:
    """Fit a Gaussian process by maximum a posteriori from fixed initial values.

    Args:
        x: ``n x d`` points of the unit cube.
        y: ``n x 1`` standardised targets, to be maximised.
        options: noise and priors.
    """
    settings: dict[str, Any] = {
        "covar_module": make_kernel(x.shape[-1], options.hyperpriors),
        "outcome_transform": None,
    }
    if options.noise_variance is None:
        constraint = Interval(*_LEARNED_NOISE_BOUNDS)
        settings["likelihood"] = GaussianLikelihood(noise_constraint=constraint)
    else:
        settings["train_Yvar"] = torch.full_like(y, options.noise_variance)
    model = SingleTaskGP(x, y, **settings)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def trust_region_box(center: Tensor, lengthscale: Tensor, length: float) -> Tensor:
    """Return the ``2 x d`` bounds of the region, clipped to the unit cube.

    Edges are proportional to the ``d`` lengthscales, with ``length`` as their
    geometric mean before clipping.
    """
    log_weights = lengthscale.log()
    weights = (log_weights - log_weights.mean()).exp()
    half = 0.5 * length * weights
    return torch.stack([center - half, center + half]).clamp(0.0, 1.0)


def propose(
    model: SingleTaskGP,
    x: Tensor,
    y: Tensor,
    length: float,
    q: int,
    beta: float,
    seed: int,
    options: Options,
) -> Tensor:
    """Return ``q x d`` points inside the trust region around the best of ``x``.

    Args:
        model: process fitted to ``x`` and ``y``.
        x: ``n x d`` points of the unit cube.
        y: ``n x 1`` standardised targets, to be maximised.
        length: edge of the trust region.
        q: number of points.
        beta: qUCB's weight of the covariance; other acquisitions ignore it.
        seed: of the base samples, starts and candidates. Thompson sampling and the
            choice of starts also draw from PyTorch's global generator, which the
            caller seeds.
        options: the acquisition and its effort.
    """
    center = x[y.squeeze(-1).argmax()]
    lengthscale = model.covar_module.base_kernel.lengthscale.detach().reshape(-1)
    box = trust_region_box(center, lengthscale, length)
    if options.acquisition == "ts":
        return _thompson(model, center, box, q, seed, options.thompson_candidates)

    sampler = SobolQMCNormalSampler(torch.Size([options.mc_samples]), seed=seed)
    acquisition: AcquisitionFunction
    if options.acquisition == "qucb":
        acquisition = qUpperConfidenceBound(model, beta=beta, sampler=sampler)
    elif options.acquisition == "qlogei":
        acquisition = qLogExpectedImprovement(model, best_f=y.max(), sampler=sampler)
    else:
        with warnings.catch_warnings():  # BoTorch advises qLogEI; qEI was asked for
            warnings.simplefilter("ignore", NumericsWarning)
            acquisition = qExpectedImprovement(model, best_f=y.max(), sampler=sampler)
    points, _ = optimize_acqf(
        acquisition,
        bounds=box,
        q=q,
        num_restarts=options.num_restarts,
        raw_samples=options.raw_samples,
        options={"seed": seed},
    )
    return points.detach()


def _thompson(
    model: SingleTaskGP, center: Tensor, box: Tensor, q: int, seed: int, candidates: int | None
) -> Tensor:
    """Return the maxima of ``q`` posterior samples on perturbations of ``center``."""
    dim = center.numel()
    if candidates is None:
        candidates = min(5000, max(2000, 200 * dim))
    sobol = SobolEngine(dim, scramble=True, seed=seed).draw(candidates, dtype=center.dtype)
    perturbed = box[0] + (box[1] - box[0]) * sobol
    mask = torch.rand(candidates, dim, dtype=center.dtype) <= min(20.0 / dim, 1.0)
    unmoved = torch.where(~mask.any(dim=1))[0]
    mask[unmoved, torch.randint(0, dim, (len(unmoved),))] = True
    points = torch.where(mask, perturbed, center)
    with torch.no_grad():
        return MaxPosteriorSampling(model=model, replacement=False)(points, num_samples=q)


def minimise(
    f: Objective,
    dim: int,
    max_evaluations: int,
    batch: int = 8,
    seed: int = 0,
    options: Options | None = None,
) -> dict[str, Any]:
    """Minimise ``f`` over the unit cube of ``dim`` dimensions.

    Args:
        f: takes ``n x dim`` points and returns their ``n`` finite values.
        dim: dimension.
        max_evaluations: number of points evaluated, initial ones included; the last
            batch is cut to fit.
        batch: points per step.
        seed: determines all random numbers.
        options: settings; None for the defaults.

    Returns:
        ``best_so_far`` (smallest value after each evaluation), ``seconds`` (of each
        step: fit and proposal, without the evaluation of ``f``) with ``trained_on``
        (points the step was trained on), ``length`` and ``beta`` (of each step),
        ``x_best``, ``y_best``, all ``x`` and ``y`` in order, and ``restarts``
        (number of points at each collapse).
    """
    options = Options() if options is None else options
    if min(dim, batch) < 1:
        raise ValueError("dim and batch must be at least 1")
    initial = options.initial_points or batch * math.ceil(2 * dim / batch)
    if max_evaluations < initial:
        raise ValueError(f"max_evaluations must cover the {initial} initial points")

    rng = np.random.default_rng(seed)
    x = _sobol(dim, initial, _draw_seed(rng))
    values = _evaluate(f, x)
    steps: dict[str, list[float]] = {"seconds": [], "trained_on": [], "length": [], "beta": []}
    restarts: list[int] = []
    beta = options.beta
    region = TrustRegion.start(options, dim, batch, best=-values.min().item())

    while len(x) < max_evaluations:
        if region.collapsed:
            restarts.append(len(x))
            beta = min(beta * options.beta_factor, options.beta_max)
            points = _sobol(dim, min(initial, max_evaluations - len(x)), _draw_seed(rng))
            x = torch.cat([x, points])
            values = torch.cat([values, _evaluate(f, points)])
            region = TrustRegion.start(options, dim, batch, best=-values.min().item())
            continue

        q = min(batch, max_evaluations - len(x))
        step_seed = _draw_seed(rng)
        started = time.perf_counter()
        with manual_seed(step_seed), gpytorch.settings.max_cholesky_size(math.inf):
            y = _standardise(-values)
            model = fit_model(x, y, options)
            points = propose(model, x, y, region.length, q, beta, step_seed, options)
        steps["seconds"].append(time.perf_counter() - started)
        steps["trained_on"].append(len(x))
        steps["length"].append(region.length)
        steps["beta"].append(beta)

        new_values = _evaluate(f, points)
        region.update(-new_values.min().item())
        x = torch.cat([x, points])
        values = torch.cat([values, new_values])

    y_all = values.squeeze(-1).numpy()
    return {
        **steps,
        "best_so_far": np.minimum.accumulate(y_all),
        "x_best": x[int(y_all.argmin())].numpy().copy(),
        "y_best": float(y_all.min()),
        "x": x.numpy(),
        "y": y_all,
        "restarts": restarts,
    }


def _draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31 - 1))


def _sobol(dim: int, count: int, seed: int) -> Tensor:
    return SobolEngine(dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)


def _standardise(values: Tensor) -> Tensor:
    """Return ``n x 1`` values at zero mean and unit variance; constants become zero."""
    spread = values.std()
    return (values - values.mean()) / (spread if spread > 0 else 1.0)


def _evaluate(f: Objective, points: Tensor) -> Tensor:
    """Return ``f`` at ``n x d`` points as ``n x 1``, or raise if that is impossible."""
    values = np.asarray(f(points.numpy().copy()), dtype=np.float64)
    if values.shape != (len(points),):
        raise ValueError(f"f returned shape {values.shape} for {len(points)} points")
    if not np.isfinite(values).all():
        raise ValueError("f returned a value that is not finite")
    return torch.from_numpy(values.copy()).unsqueeze(-1)
