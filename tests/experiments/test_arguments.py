"""File names reach the settings letter by letter."""

import dataclasses
import os
import string

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments.arguments import LISTS, PATHS, flags_first, literal_paths
from qhrtem_jax.errors import InputError
from qhrtem_jax.stages import RunSettings

PARSER = OverridesParser.create()


def through_hydra(name: str) -> str:
    (argument,) = literal_paths([f"data.image={name}"])
    config = OmegaConf.create({"data": {"image": None}})
    OmegaConf.update(config, "data.image", PARSER.parse_override(argument).value())
    return config.data.image


NAMES = (
    *("a=b.npy", "it's.npy", "[a].npy", "a b", "ä/日本.npy", "${oc.env:HOME}", "a\\", "\\${x}"),
    *("a,b", "{x}", "(x)", "a#b", "a: b", "1e3", "true", " a ", "~", "a\\'", "c:\\d", './"q"'),
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_meant_literally(name):
    assert through_hydra(name) == name


@given(st.text(st.sampled_from(string.printable + "äé日"), min_size=1))
def test_any_name_is_meant_literally(name):
    name = "/" + name
    assert through_hydra(name) == name


def test_what_is_no_file_name_stays():
    for argument in (
        "+stage=imaging",
        "data.image=null",
        "data.image='a b'",
        "data.image=[a.npy,'b c.npy']",
        "seed=1,2",
        "-m",
    ):
        assert literal_paths([argument]) == [argument]
    assert literal_paths(["-m", "data.image=a,b"]) == ["-m", "data.image=a,b"]
    assert literal_paths(["hydra.run.dir=runs/${stage}"]) == ["hydra.run.dir='runs/${stage}'"]


def test_names_that_are_not_utf8_are_refused():
    with pytest.raises(InputError, match="not UTF-8"):
        literal_paths([os.fsdecode(b"data.image=/tmp/\xff.npy")])


def test_file_names_are_all_options_that_settings_say_are_files():
    settings, files = RunSettings("imaging"), set()
    for field in dataclasses.fields(settings):
        group = getattr(settings, field.name)
        names = (*getattr(group, "INPUTS", ()), *getattr(group, "OUTPUTS", ()))
        files |= {f"{field.name}.{name}" for name in names}
    assert files - (set(LISTS) - set(PATHS)) == {
        path for path in PATHS if "." in path and not path.startswith("hydra.")
    }


def test_flags_may_stand_anywhere():
    assert flags_first(["+stage=imaging", "-m", "seed=0,1"]) == ["-m", "+stage=imaging", "seed=0,1"]
    assert flags_first(["seed=1", "-c", "job", "a=b"]) == ["-c", "job", "seed=1", "a=b"]
    assert flags_first(["seed=1", "a=-1"]) == ["seed=1", "a=-1"]
