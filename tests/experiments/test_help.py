"""What the command line tells of itself."""

import dataclasses
import re
from pathlib import Path

import pytest

from experiments.help import helped, options_of, overview, with_bare_stage
from experiments.refusals import options, stages
from qhrtem_jax.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
TOLD_ONCE = re.compile(r"parameters\.\w+\.\w+")


def test_all_stages_are_told_in_a_line_each():
    text = overview()
    for name in stages():
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert 20 < len(line) < 100


def test_every_option_is_told_with_its_meaning():
    every = "\n".join(options_of(stage, CONFIGS) for stage in stages())
    told = {
        match.group(1): match.group(2)
        for match in re.finditer(r"^  ([\w.]+)=\S.*?  +(\S.*)$", every, re.MULTILINE)
    }
    for name in options():
        if not TOLD_ONCE.fullmatch(name) and name != "stage":
            assert name in told, name
    assert "parameters.NAME.value|free|low|high|prior_mean|prior_std" in every


def test_a_stage_tells_what_it_takes_and_no_more():
    text = options_of("mtf", CONFIGS)
    assert "mtf.reach_px=64" in text
    assert "pixels on either side" in text
    assert "optimizer." not in text
    assert "optimizer (optimizer=hybrid|lm|paper|turbo)" in options_of("imaging", CONFIGS)


def test_help_is_given_where_it_is_asked_for():
    assert helped(["imaging", "seed=1"], CONFIGS) is None
    assert helped(["--help"], CONFIGS) == overview()
    for arguments in (["stitch", "-h"], ["+stage=stitch", "--help"], ["--help", "stage=stitch"]):
        assert helped(arguments, CONFIGS) == options_of("stitch", CONFIGS)


def test_the_stage_may_be_a_bare_word():
    assert with_bare_stage(["imaging", "seed=1"]) == ["+stage=imaging", "seed=1"]
    assert with_bare_stage(["-m", "imaging", "seed=1,2"]) == ["-m", "+stage=imaging", "seed=1,2"]
    for arguments in ([], ["seed=1"], ["-m", "seed=1,2"], ["--from-result", "imaging"]):
        assert with_bare_stage(arguments) == arguments
    with pytest.raises(InputError, match=r"stage: found 'imagin', .*; did you mean imaging\?"):
        with_bare_stage(["imagin"])


def test_groups_are_those_of_the_settings():
    from qhrtem_jax.stages import STAGES, RunSettings

    known = {field.name for field in dataclasses.fields(RunSettings)}
    for stage in STAGES.values():
        assert set(stage.options) <= known
