"""Stage `explore`: what is unusual in an image, and how soon a beam would find it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from qhrtem_jax.exploration.campaign import Campaign, Strategy, ask, begin, predict, tell
from qhrtem_jax.exploration.problem import ExplorationProblem
from qhrtem_jax.exploration.result import (
    AtomColumns,
    Exploration,
    ExplorationResult,
    ExploreStep,
    Place,
)
from qhrtem_jax.exploration.target import make_target
from qhrtem_jax.exploration.windows import Windows
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.matching.criteria.similarity import WINDOW, structural_similarity
from qhrtem_jax.reporting.result import header

SHOWN = (0.1, 0.25, 0.5)
"""Shares of all points after which reconstructions are shown, besides the last."""


def run(problem: ExplorationProblem, journal: Journal) -> ExplorationResult:
    """Find the target of the workflow, then explore it point by point as if it were not known."""
    settings, options, windows = problem.settings, problem.settings.explore, problem.windows
    target = make_target(problem, journal)
    wanted = target.chosen.map
    found = explored(problem, wanted, journal)
    row, col = np.unravel_index(int(np.argmax(wanted)), wanted.shape)
    columns = target.columns
    return ExplorationResult(
        **header(settings, problem.reader),
        warnings=(*problem.warnings, *target.remarks),
        explore=Exploration(
            options.workflow,
            options.acquisition,
            options.kernel,
            windows.side,
            windows.step,
            target.chosen.number,
            target.chosen.why,
            found.steps,
            Place(int(windows.cols[col]), int(windows.rows[row]), float(wanted[row, col])),
            None
            if columns is None
            else AtomColumns(len(columns.places), float(columns.sure.mean())),
        ),
        cost=journal.cost(),
        arrays={
            "image": problem.image.astype(np.float32),
            "target": wanted.astype(np.float32),
            "reconstruction": found.mean.astype(np.float32),
            "uncertainty": found.deviation.astype(np.float32),
            "maps": target.maps.astype(np.float32),
            "rows": windows.rows,
            "cols": windows.cols,
            "points_px": windows.centres[found.state.measured],
        }
        | ({} if columns is None else {"columns_px": columns.places}),
        seen_after=found.seen_after,
    )


@dataclasses.dataclass(frozen=True)
class Explored:
    """Where an exploration ended, what it says of the map (mean, deviation), each of its steps, and
    (points, mean) on the way."""

    state: Campaign
    mean: Float[np.ndarray, "rows cols"]
    deviation: Float[np.ndarray, "rows cols"]
    steps: tuple[ExploreStep, ...]
    seen_after: tuple[tuple[int, Float[np.ndarray, "rows cols"]], ...]


def explored(
    problem: ExplorationProblem, wanted: Float[np.ndarray, "rows cols"], journal: Journal
) -> Explored:
    """A map, explored as if only what was measured were known of it."""
    options, windows = problem.settings.explore, problem.windows
    strategy = Strategy(
        float(options.length_px or windows.side),
        options.acquisition,
        options.kernel,
        options.beta,
        options.path_cost,
        known=options.length_px is not None,
        expected_points=options.points,
    )
    state, steps, seen_after = begin(windows.centres.astype(float), strategy), [], []
    tick = journal.tick("exploration", "points")
    marks = [share * options.points for share in SHOWN]
    while len(state.measured) < options.points:
        chosen = ask(state, min(options.batch, options.points - len(state.measured)))
        state = tell(state, chosen, wanted.ravel()[chosen])
        mean, deviation = (found.reshape(windows.shape) for found in predict(state))
        steps.append(_step(problem, state, wanted, mean, deviation))
        tick(len(state.measured), options.points)
        if marks and len(state.measured) >= marks[0]:
            marks = [mark for mark in marks if mark > len(state.measured)]
            seen_after.append((len(state.measured), mean))
    seen_after.append((len(state.measured), mean))
    return Explored(state, mean, deviation, tuple(steps), tuple(seen_after))


def _step(
    problem: ExplorationProblem,
    state: Campaign,
    wanted: Float[np.ndarray, "rows cols"],
    mean: Float[np.ndarray, "rows cols"],
    deviation: Float[np.ndarray, "rows cols"],
) -> ExploreStep:
    ssim = None
    if min(wanted.shape) >= WINDOW:
        ssim = float(_similarity(jnp.asarray(mean), jnp.asarray(wanted)))
    found = None
    if problem.truth is not None:
        found = share_found(problem.truth, problem.windows, state.measured)
    return ExploreStep(len(state.measured), ssim, float(deviation.mean()), found, state.way_px)


_similarity = jax.jit(structural_similarity)


def share_found(
    truth: Bool[np.ndarray, "rows cols"], windows: Windows, measured: Int[np.ndarray, " m"]
) -> float:
    """Share of the truth's pixels that lie in some of the windows."""
    seen = np.zeros(truth.shape, dtype=bool)
    half = windows.side // 2
    for row, col in windows.centres[measured]:
        top, left = row - half, col - half
        seen[top : top + windows.side, left : left + windows.side] = True
    return float(np.mean(seen[truth]))
