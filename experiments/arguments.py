"""What a shell gives us, as Hydra wants it."""

import os
import re

from qhrtem_jax.errors import InputError

PATHS = (
    "data.image",
    "data.mtf",
    "data.dark",
    "data.vacuum_image",
    "data.mask",
    "data.prepared",
    "specimen.structure",
    "specimen.trajectory",
    "simulate.table",
    "simulate.out",
    "explore.truth",
    "imaging.result",
    "stitch.result",
    "from_result",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
"""Options that are file names: whatever characters are in them, they are meant literally."""

LISTS = ("specimen.candidates", "data.image")
"""Options that are, or may be, lists of file names, [a,b], read as Hydra has them: unusual ones in
quotes."""

_KEY = re.compile(r"[+~]{0,2}([\w.]+)=(.*)", re.DOTALL)
_SWEEPS = ("choice(", "glob(", "sort(", "shuffle(")


FROM_RESULT = "--from-result"


def from_result(arguments: list[str]) -> list[str]:
    """`--from-result FILE` as options that Hydra knows; the stage is the file's."""
    found = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != FROM_RESULT:
            found.append(argument)
            continue
        value = value if equals else next(rest, "")
        if not value:
            raise InputError(f"{FROM_RESULT}: none given, expected a result.json or a run folder")
        found += ["+stage=repeat", f"+from_result={value}"]
    return found


TAKES_A_VALUE = {
    *("--shell-completion", "-sc", "--package", "-p", "--config-path", "-cp", "--config-name"),
    *("-cn", "--config-dir", "-cd", "--experimental-rerun", "--cfg", "-c", "--info", "-i"),
}
"""Hydra's flags that the next word belongs to."""


def flags_first(arguments: list[str]) -> list[str]:
    """Hydra's flags before all options: its parser knows them nowhere else."""
    flags, others, rest = [], [], iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            others.append(argument)
            continue
        flags.append(argument)
        if argument in TAKES_A_VALUE:
            flags += [value for value in [next(rest, None)] if value is not None]
    return flags + others


def with_stage(arguments: list[str]) -> list[str]:
    """`stage=NAME` as `+stage=NAME`, which Hydra wants."""
    return [f"+{a}" if a.startswith("stage=") else a for a in arguments]


def literal_paths(arguments: list[str]) -> list[str]:
    """`arguments` with file names quoted for Hydra where they need it.

    Left as they are: what is quoted already, and, in a multirun, lists and sweeps. `${...}` in the
    name of a file is no interpolation; in `hydra.run.dir` and `hydra.sweep.dir` it is.

    **Raises:** `InputError` for arguments that are not UTF-8.
    """
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"command line: {os.fsencode(argument)!r} is not UTF-8, expected file names and "
                "options in UTF-8: rename the file"
            ) from None
    multirun = any(a in ("-m", "--multirun", "hydra.mode=MULTIRUN") for a in arguments)
    return [_literal(argument, multirun) for argument in arguments]


def _literal(argument: str, multirun: bool) -> str:
    match = _KEY.fullmatch(argument)
    if match is None or match.group(1) not in PATHS:
        return argument
    value = match.group(2)
    if value in ("", "null") or value[0] in "'\"":
        return argument
    if match.group(1) in LISTS and value[0] + value[-1] == "[]":
        return argument
    if multirun and ("," in value or value.startswith(_SWEEPS)):
        return argument
    if not match.group(1).startswith("hydra."):
        value = re.sub(r"(\\*)\$\{", lambda m: 2 * m.group(1) + "\\${", value)
    return argument[: match.start(2)] + _quoted(value)


def _quoted(value: str) -> str:
    """In Hydra's single quotes, where a backslash matters only before a quote or at the end."""
    value = re.sub(r"(\\*)'", lambda m: 2 * m.group(1) + "\\'", value)
    trailing = len(value) - len(value.rstrip("\\"))
    return f"'{value}{trailing * chr(92)}'"
