"""What results are said to be worth."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.reporting.result import figures_of_merit
from qhrtem_jax.reporting.verdict import said, verdict_of

Y, X = np.mgrid[:40, :50]
IMAGE = 1.0 + 0.2 * np.cos(X / 3.0) * np.cos(Y / 4.0)
NOISE = np.random.default_rng(0).normal(size=IMAGE.shape)


def fit(std, chi2, image=IMAGE):
    return figures_of_merit(image + std * NOISE, IMAGE, chi2)


@pytest.mark.parametrize(
    ("found", "warnings", "word", "why"),
    [
        (fit(0.01, 1.02), (), "good", "reduced chi-square 1.02"),
        (fit(0.01, None), (), "good", "NCC"),
        (fit(0.01, 6.6), (), "doubtful", "6.6 times what the noise explains"),
        (fit(0.05, 2.0), (), "doubtful", "expected 95 % and more"),
        (fit(0.05, None), (), "doubtful", "expected 95 % and more"),
        (fit(0.2, 1.0), (), "good", "reduced chi-square 1.00"),  # a noisy image
        (fit(0.01, 1.0), ("so the basin may be wrong: 1 of 8",), "doubtful", "basin may be wrong"),
        (fit(0.0, 90.0, 2.0 - IMAGE), (), "wrong model", "NCC -100.0 %"),
        (fit(0.2, 300.0), ("the basin may be wrong",), "wrong model", "not like the image"),
    ],
)
def test_a_verdict_says_what_a_fit_is_worth(found, warnings, word, why):
    verdict = verdict_of(found, warnings)
    assert verdict.word == word
    assert why in verdict.why
    assert (verdict.try_next is None) == (word == "good")
    line = said(verdict)
    assert line.startswith(f"{word}: ")
    assert ("look at" in line) == (word != "good")
    assert dataclasses.asdict(verdict)["word"] == word
