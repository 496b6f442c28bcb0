"""Strict conversion of plain nested containers to typed settings.

Values may come from anywhere (a file, a command line, a program), so nothing is assumed of them:
whatever does not fit raises `InputError` that names the option, in one short line.
"""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any

from qhrtem_jax.errors import InputError, raise_all

LONGEST_LIST = 100_000
LONGEST_TEXT = 4096
"""The longest path that systems take."""


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 60


_REPR = _ShortRepr()


def shown(value: Any) -> str:
    """`value` as a message shows it: short, whatever it is."""
    try:
        text = _REPR.repr(value)
    except Exception:  # the value may be anything, its repr may do anything
        return f"a {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:120]}..."


def typed(kind: type, content: Any, path: str = "") -> Any:
    """`content` as the dataclass `kind`; `path`, its full name in messages.

    A `kind` may have `CHOICES`, the words that a field takes, and `RANGES`, (low, high) of a
    field's numbers, both allowed.

    **Raises:** `InputError` that names the fields, what was found and what was expected.
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path or 'settings'}: found {shown(content)}, expected a group of options"
        )
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    values, faults = {}, []
    for key, value in content.items():
        try:
            where = _joined(path, key)
            if key not in fields:
                expected = ", ".join(sorted(fields))
                raise InputError(f"{where}: unknown option, expected one of {expected}")
            values[key] = _field(kind, hints[key], key, value, where)
        except InputError as error:
            faults.append(error)
    raise_all(faults)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{_joined(path, missing[0])}: none given")
    return kind(**values)


def _field(kind: type, hint: Any, key: str, value: Any, where: str) -> Any:
    """A field's value, one of its choices and within its range."""
    converted = _convert(hint, value, where)
    choices = getattr(kind, "CHOICES", {}).get(key)
    if choices is not None and converted not in choices:
        expected = ", ".join(str(c).lower() if isinstance(c, bool) else c for c in choices)
        raise InputError(f"{where}: found {shown(value)}, expected one of {expected}")
    limits = getattr(kind, "RANGES", {}).get(key)
    if limits is not None:
        _check_range(converted, limits, where)
    return converted


def _joined(path: str, key: Any) -> str:
    if not isinstance(key, str):
        raise InputError(
            f"{path or 'settings'}: found the key {shown(key)}, expected the name of an option"
        )
    name = key if len(key) <= 60 and key.isprintable() else shown(key)
    return f"{path}.{name}" if path else name


def _check_range(value: Any, limits: tuple[float, float], where: str) -> None:
    if isinstance(value, tuple):
        for k, item in enumerate(value):
            _check_range(item, limits, f"{where}[{k}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_range(item, limits, f"{where}.{key}")
    elif isinstance(value, int | float) and not limits[0] <= value <= limits[1]:
        low, high = (f"{limit:.10g}" for limit in limits)
        raise InputError(f"{where}: found {shown(value)}, expected {low} to {high}")


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, or an `InputError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return _convert(option, value, where)
            except InputError as error:
                errors.append(str(error))
        raise InputError(errors[0])
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: found {shown(value)}, expected a group of options")
        return _convert_group(arguments[1], value, where)
    if dataclasses.is_dataclass(hint):
        return typed(typing.cast(type, hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_group(hint: Any, value: Mapping, where: str) -> dict[str, Any]:
    values, faults = {}, []
    for key, item in value.items():
        try:
            values[key] = _convert(hint, item, _joined(where, key))
        except InputError as error:
            faults.append(error)
    raise_all(faults)
    return values


def _convert_tuple(arguments: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where}: found {shown(value)}, expected a list")
    if arguments[-1] is Ellipsis:
        if len(value) > LONGEST_LIST:
            raise InputError(
                f"{where}: found {len(value)} entries, expected at most {LONGEST_LIST}"
            )
        return tuple(_convert(arguments[0], v, f"{where}[{k}]") for k, v in enumerate(value))
    if len(value) != len(arguments):
        raise InputError(f"{where}: found {shown(value)}, expected {len(arguments)} numbers")
    pairs = zip(arguments, value, strict=True)
    return tuple(_convert(hint, v, f"{where}[{k}]") for k, (hint, v) in enumerate(pairs))


def _convert_scalar(hint: type, value: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        try:
            converted = float(value)
        except OverflowError:
            converted = math.inf
        if not math.isfinite(converted):
            raise InputError(f"{where}: found {shown(value)}, expected a finite number")
        return converted
    if hint is int and number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if hint is str and isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise InputError(
                f"{where}: found a text of {len(value)} characters, expected at most {LONGEST_TEXT}"
            )
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise InputError(f"{where}: found {shown(value)}, expected characters that are text")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    raise InputError(f"{where}: found {shown(value)}, expected {names[hint]}")
