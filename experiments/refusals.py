"""What Hydra refuses, in words of ours."""

import dataclasses
import difflib
import re
import typing

_UNKNOWN = re.compile(r"Could not override '([^']*)'")
_NOT_IN_CONFIG = re.compile(r"Key '([^']*)' is not in struct full_key: (\S+)")
_NO_CHOICE = re.compile(
    r"Could not find '([^'/]+)/([^']*)' Available options in '[^']*': (.*?)(?: Config|$)"
)


def in_our_words(message: str) -> str:
    """A message of Hydra's about the command line, as we say such things."""
    if "Missing mandatory value: stage" in message:
        return stage_wanted("none given")
    if (match := _NO_CHOICE.search(message)) is not None:
        group, found, known = match.groups()
        if group == "stage":
            return stage_wanted(f"found {found!r}", found)
        names = known.split()
        return (
            f"{group}: found {found!r}, expected one of {', '.join(names)}{_nearest(found, names)}"
        )
    for pattern, part in ((_UNKNOWN, 1), (_NOT_IN_CONFIG, 2)):
        if (match := pattern.search(message)) is not None:
            name = match.group(part)
            return f"{name}: unknown option{_nearest(name, options())}"
    return message


def stage_wanted(found: str, name: str = "") -> str:
    """What is said where no stage is named, or none of ours."""
    return f"stage: {found}, expected one of {', '.join(stages())}{_nearest(name, stages())}"


def stages() -> list[str]:
    """All of them."""
    from qhrtem_jax.stages import PIPELINE, STAGES

    return [*STAGES, PIPELINE]


def options() -> list[str]:
    """Full names of all options."""
    from qhrtem_jax.inputs.settings import ParameterSettings
    from qhrtem_jax.physics.parameters import NAMES
    from qhrtem_jax.stages import RunSettings

    found = []
    hints = typing.get_type_hints(RunSettings)
    for field in dataclasses.fields(RunSettings):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            found += [f"{field.name}.{inner.name}" for inner in dataclasses.fields(kind)]
        elif field.name == "parameters":
            inner = [part.name for part in dataclasses.fields(ParameterSettings)]
            found += [f"parameters.{name}.{part}" for name in NAMES for part in inner]
        else:
            found.append(field.name)
    return found


def _nearest(name: str, known: list[str]) -> str:
    """The option that was meant: the right one in the wrong group, or one letter off."""
    last = name.rsplit(".", 1)[-1]
    close = [option for option in known if option.rsplit(".", 1)[-1] == last]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
