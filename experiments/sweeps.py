"""What varies in a sweep, and which of its runs failed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from qhrtem_jax.io.atomic import write_text

VARIABLE = "QHRTEM_SWEPT"
"""Environment variable that tells the processes of a sweep which options vary in it."""

FAILED = ".failed"
"""Folder of a sweep in which failed runs leave their messages."""


def announce(arguments: list[str]) -> None:
    """Tell this process, and those that it starts, which options vary."""
    os.environ.pop(VARIABLE, None)
    if {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments):
        os.environ[VARIABLE] = ",".join(varied(arguments))


def announced() -> tuple[str, ...]:
    """The options that vary in the sweep that this process is a part of."""
    return tuple(filter(None, os.environ.get(VARIABLE, "").split(",")))


def varied(arguments: list[str]) -> tuple[str, ...]:
    """Options of a command line that are given several values."""
    found = []
    for argument in arguments:
        if "=" not in argument or argument.startswith("-"):
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            continue  # refused later, in words
        if override.is_sweep_override():
            found.append(override.key_or_group)
    return tuple(found)


def by_option(overrides: list[str]) -> dict[str, str]:
    """What overrides say, by option."""
    pairs = (override.partition("=") for override in overrides)
    return {key.lstrip("+"): value for key, _, value in pairs}


def note_failure(folder: Path, sweep: Path, overrides: list[str], message: str) -> None:
    """Leave the message of a failed run of a sweep for its summary."""
    target = sweep / FAILED
    target.mkdir(parents=True, exist_ok=True)
    content = {"run": folder.name, "overrides": overrides, "message": message}
    write_text(target / f"{folder.name[:200]}.json", json.dumps(content), durable=False)


def failures(sweep: Path) -> list[Mapping[str, Any]]:
    """What failed runs left."""
    found = []
    for path in sorted((sweep / FAILED).glob("*.json")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            continue  # not ours
    return found


def overrides_of(run: Path) -> list[str]:
    """The overrides of a run, as Hydra writes them."""
    try:
        found = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    except (OSError, ValueError):
        return []
    return [str(override) for override in found] if isinstance(found, list) else []
