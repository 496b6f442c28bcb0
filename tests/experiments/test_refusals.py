"""What the command line says to what it does not know."""

import subprocess
import sys

import pytest

import qhrtem_jax
from experiments.arguments import with_stage
from experiments.refusals import in_our_words, options


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "Could not override 'data.imgae'. To append to your config use +data.imgae=x",
            "data.imgae: unknown option; did you mean data.image?",
        ),
        (
            "Could not override 'data.zone'. To append to your config use +data.zone=1",
            "data.zone: unknown option; did you mean specimen.zone?",
        ),
        (
            "Could not override 'parameters.C1.lo'. To append",
            "parameters.C1.lo: unknown option; did you mean parameters.C1.low?",
        ),
        (
            "In 'config': Could not find 'optimizer/turb' Available options in 'optimizer': "
            "hybrid lm paper turbo Config search path: provider=hydra",
            "optimizer: found 'turb', expected one of hybrid, lm, paper, turbo; did you mean "
            "turbo?",
        ),
        ("Could not override 'qqq'. To append", "qqq: unknown option"),
        ("something else", "something else"),
    ],
)
def test_hydras_words_become_ours(theirs, ours):
    assert in_our_words(theirs) == ours


def test_stages_are_listed_where_none_is_named():
    for message in (
        "Missing mandatory value: stage full_key: stage",
        "Could not find 'stage/x' Available options in 'stage': a b Config",
    ):
        found = in_our_words(message)
        assert found.startswith("stage: ")
        for name in ("prepare", "imaging", "pipeline"):
            assert name in found


def test_options_are_those_of_the_settings():
    known = options()
    assert len(known) == len(set(known))
    for name in ("data.image", "specimen.zone", "parameters.C3.prior_std", "seed", "stitch.refine"):
        assert name in known


def test_a_stage_needs_no_plus():
    assert with_stage(["stage=imaging", "+stage=x", "seed=1"]) == [
        "+stage=imaging",
        "+stage=x",
        "seed=1",
    ]


def test_the_version_is_ours():
    command = [sys.executable, "-m", "experiments.run", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"qhrtem_jax {qhrtem_jax.__version__}"
