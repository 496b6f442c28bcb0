"""JSON schema of results, from their dataclasses."""

import dataclasses
import types
import typing
from typing import Any

from qhrtem_jax.reporting.result import Result

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_SCALARS = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def schema_of(stages: dict[str, type], settings: type | None = None) -> dict[str, Any]:
    """Schema (draft 2020-12) of `result.json`; `stages`: the result of each stage; `settings`: the
    class of all options, which stages know a part of only."""
    definitions: dict[str, Any] = {}
    choices = []
    for name, kind in stages.items():
        of_stage = {"properties": {"stage": {"const": name}}, "required": ["stage"]}
        choices.append({"allOf": [_of(kind, definitions), of_stage]})
    if settings is not None:
        whole = _of(settings, definitions)
        for kind in settings.__mro__[1:]:
            if dataclasses.is_dataclass(kind):
                definitions[_name(kind)] = whole
    return {
        "$schema": DRAFT,
        "title": "result.json of qhrtem_jax",
        "oneOf": choices,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if dataclasses.is_dataclass(hint):
        return _of_dataclass(typing.cast(type, hint), definitions)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(argument, definitions) for argument in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is tuple:
        items = [_of(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    raise TypeError(f"a result holds {hint}, which has no place in a schema")


def _of_dataclass(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = _name(kind)
    if name not in definitions:
        definitions[name] = {}  # a class may hold itself
        hints = typing.get_type_hints(kind)
        fields = [f for f in dataclasses.fields(kind) if not f.metadata.get("aside")]
        definitions[name] = {
            "description": " ".join((kind.__doc__ or "").split()),
            "type": "object",
            "properties": {f.name: _of(hints[f.name], definitions) for f in fields},
            "required": [f.name for f in fields if not f.metadata.get("optional")],
            "additionalProperties": _of_more(kind),
        }
    return {"$ref": f"#/$defs/{name}"}


def _name(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[0].rpartition('.')[2]}.{kind.__name__}"


def _of_more(kind: type) -> bool:
    """A result carries its seal and fingerprint besides its own fields."""
    return issubclass(kind, Result)
