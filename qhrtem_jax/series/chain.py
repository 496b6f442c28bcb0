"""Numbers that change now and then: a hidden Markov chain over frames (L. R. Rabiner, Proc. IEEE
77, 257, 1989)."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Path:
    """Of one number: the most probable values (indices) over all frames, the probability of each
    value at each frame, and of each pair of values at frames that follow each other."""

    best: Int[np.ndarray, " frames"]
    probability: Float[np.ndarray, "frames values"]
    pairs: Float[np.ndarray, "steps values values"]


def log_transitions(count: int, rate: float) -> Float[np.ndarray, "values values"]:
    """Logarithms of the probabilities of one frame to the next: a number changes at `rate`, by one
    atom as a rule, by each further one `rate` times as often."""
    steps = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    weight = np.where(steps == 0, 0.0, rate ** np.maximum(steps, 1))
    weight = weight * 0.5  # up or down
    stay = 1.0 - weight.sum(axis=1)
    return np.log(weight + np.diag(stay))


def follow(
    log_likelihood: Float[np.ndarray, "frames values"], log_step: Float[np.ndarray, "values values"]
) -> Path:
    """Values before the first frame are equally probable; impossible ones have a likelihood of
    -inf."""
    frames, values = log_likelihood.shape
    forward, backward = np.zeros((frames, values)), np.zeros((frames, values))
    reached, came = log_likelihood[0].copy(), np.zeros((frames, values), dtype=int)
    forward[0] = log_likelihood[0]
    for t in range(1, frames):
        forward[t] = log_likelihood[t] + np.logaddexp.reduce(
            forward[t - 1][:, None] + log_step, axis=0
        )
        through = reached[:, None] + log_step
        came[t] = np.argmax(through, axis=0)
        reached = log_likelihood[t] + np.max(through, axis=0)
    for t in range(frames - 2, -1, -1):
        ahead = log_likelihood[t + 1] + backward[t + 1]
        backward[t] = np.logaddexp.reduce(log_step + ahead[None, :], axis=1)
    total = float(np.logaddexp.reduce(forward[-1]))
    best = np.zeros(frames, dtype=int)
    best[-1] = int(np.argmax(reached))
    for t in range(frames - 1, 0, -1):
        best[t - 1] = came[t, best[t]]
    pairs = np.exp(
        forward[:-1, :, None]
        + log_step[None]
        + (log_likelihood[1:] + backward[1:])[:, None, :]
        - total
    )
    return Path(best, np.exp(forward + backward - total), pairs)
