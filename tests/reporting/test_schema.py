"""The schema of results."""

import dataclasses

import jsonschema
import pytest

from experiments import schema as command
from qhrtem_jax.reporting.result import ASIDE, OPTIONAL, as_json
from qhrtem_jax.reporting.schema import schema_of
from tests import schema


@dataclasses.dataclass(frozen=True)
class Inner:
    x: float
    y: float | None


@dataclasses.dataclass(frozen=True)
class Small:
    stage: str
    pair: tuple[int, int]
    inner: dict[str, Inner]
    hidden: object = dataclasses.field(default=None, metadata=ASIDE)
    sometimes: tuple[Inner, ...] | None = dataclasses.field(default=None, metadata=OPTIONAL)


def test_the_schema_in_the_docs_is_that_of_the_classes():
    assert schema.SCHEMA.read_text("utf-8") == command.text()


GOOD = Small("small", (1, 2), {"a": Inner(1.0, None)}, hidden=object())


def test_results_are_as_their_schema_says():
    validator = jsonschema.Draft202012Validator(schema_of({"small": Small}))
    content = as_json(GOOD)
    assert content == {"stage": "small", "pair": [1, 2], "inner": {"a": {"x": 1.0, "y": None}}}
    validator.validate(content)
    validator.validate(as_json(dataclasses.replace(GOOD, sometimes=(Inner(1.0, 2.0),))))


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "other"},
        {"pair": [1]},
        {"pair": [1, 2.5]},
        {"inner": {"a": {"x": 1.0}}},
        {"inner": {"a": {"x": None, "y": 1.0}}},
        {"inner": {"a": {"x": 1.0, "y": 1.0, "z": 1.0}}},
        {"unknown": 1},
    ],
)
def test_what_is_not_is_refused(changes):
    validator = jsonschema.Draft202012Validator(schema_of({"small": Small}))
    assert not validator.is_valid(as_json(GOOD) | changes)
